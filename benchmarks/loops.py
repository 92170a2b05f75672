"""Workers as a user starts them: `cg worker loop`, ours or the reference's, or a program with a `Worker`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.servers import Agent, Server, end, own_environment
from cgworker.private import replace_private
from cgworker.profiles import ConfigFile, Profile

OUR_CG = (sys.executable, "-m", "cgworker")
RUNTIME = "runtime.sh"
"""The command's name in the user's home."""
RESIDENT_RUNTIME = "resident.sh"
"""The name of the command that stays."""

_PROGRAM = """
import sys
from cgworker import Turn, Worker, run

worker = Worker.from_profile(sys.argv[1])

@worker.turn()
async def nothing(turn: Turn) -> None: ...

run(worker)
"""


def cg_of(python: str) -> tuple[str, ...]:
    """The `cg` that is installed for a Python."""
    return (str(Path(python).with_name("cg")),)


@contextmanager
def loops(
    cg: Sequence[str], server: Server, agents: Sequence[Agent], home: Path, *, is_resident: bool = False
) -> Iterator[list[int]]:
    """A loop for each agent, until the block ends; gives their pids.

    What they said is told when the block ends in a timeout. With `is_resident` the command stays.
    """
    with (home / "log").open("w+") as log:
        running = [_started([*cg, *_words(server, agent, home, is_resident)], home, log) for agent in agents]
        try:
            yield [loop.pid for loop in running]
        except TimeoutError as late:
            late.add_note(f"{cg} said: {Path(log.name).read_text()[-2000:]}")
            raise
        finally:
            for loop in running:
                end(loop)


@contextmanager
def embedded(server: Server, agent: Agent, home: Path) -> Iterator[int]:
    """A program with a worker of this agent, until the block ends; gives its pid."""
    profile = _profile_of(agent, home)
    with (home / "log").open("w+") as log:
        program = [sys.executable, "-c", _PROGRAM, profile.name]
        running = _started(program, home, log, CG_BASE_URL=server.url)
        try:
            yield running.pid
        finally:
            end(running)


def _started(program: list[str], home: Path, log: IO[str], **environ: str) -> subprocess.Popen[bytes]:
    environ = {**own_environment(str(home)), **environ}
    return subprocess.Popen(program, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _words(server: Server, agent: Agent, home: Path, is_resident: bool) -> list[str]:
    """With a profile, which both programs keep alike."""
    profile = _profile_of(agent, home)
    loop = ["worker", "loop", "--base-url", server.url, "--profile", profile.name]
    if is_resident:
        return [*loop, "--resident", "--command", "sh", str(home / RESIDENT_RUNTIME)]
    return [*loop, "--command", "sh", str(home / RUNTIME)]


def _profile_of(agent: Agent, home: Path) -> Profile:
    """Kept in the config of this home."""
    project_id, agent_id = agent.ref.project_id, agent.ref.agent_id
    token_file = home / f"{agent_id}.cgac"
    replace_private(token_file, agent.token)
    profile = Profile(
        project_id=project_id,
        agent_id=agent_id,
        profile_kind="byoa.worker.v1",
        runtime_kind="byoa.worker",
        display_name=agent_id,
        credential_id=agent.token.removeprefix("cgac_").partition(".")[0],
        token_file=token_file,
        status="ready",
    )
    ConfigFile(home / ".config/commonground/config.json").save_profile(profile)
    return profile
