"""Row 5: `cg worker loop` with a command that does next to nothing, ours and the reference's.

A command that stays (`--resident`) is measured beside. Each works off the queued turns of its own kernel, a
process for each agent. The kernel says when each turn was closed, so that nothing is counted of how a loop
begins and ends.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from attrs import frozen

from benchmarks.load import Caller, callers
from benchmarks.loops import OUR_CG, RESIDENT_RUNTIME, RUNTIME, cg_of, loops
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    Agent,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
    running_reference,
)

ROW = Row(
    5,
    "`cg worker loop --command sh runtime.sh`: turns a second, and what one takes above its child",
    "≤ 5 ms above the child; ≥ 25 × the reference's turns/s on one agent and on four;"
    " a command that stays: ≤ 2.5 ms above its own answer, ≥ 45 × the reference's turns/s on one agent",
)

_RESIDENT = "cgworker, resident"
_AGENTS = 4
_OWN_RUNS = 40
_LOOK_SECONDS = 0.2
_MOST_SECONDS = 60.0
_OWN_ANSWERS = 200
_LINE_BYTES = 2000
_RESIDENT_RUNTIME = r"""
while read -r line; do
    id=${line#*:}
    printf '{"id": %s, "final": {"text": "hello"}}\n' "${id%%,*}"
done
"""
_RUNTIME = """printf '{"text": "hello"}' > "$CG_FINAL_FILE"\n"""


@frozen
class Contestant:
    """A `cg`, its kernel, and how many turns each agent has a round."""

    name: str
    cg: Sequence[str]
    server: Server
    agents: Sequence[Agent]
    turn_count: int
    is_resident: bool = False

    @property
    def own_time(self) -> str:
        """What its command takes alone."""
        return "its own answer" if self.is_resident else "its child"


async def measure(options: Options) -> Findings:
    """Turns a second on one agent and on four; the child's own time; the time above it."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-")))
        (folder / RUNTIME).write_text(_RUNTIME)
        (folder / RESIDENT_RUNTIME).write_text(_RESIDENT_RUNTIME)
        postgres = stack.enter_context(running_postgres())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        contestants = [
            await _contestant("cgworker", OUR_CG, ours, 100),
            await _contestant(_RESIDENT, OUR_CG, ours, 400, is_resident=True),
        ]
        if python := peer_python("reference"):
            published = running_reference(python, await new_database(postgres), storage="published")
            without_ddl = running_reference(python, await new_database(postgres))
            for name, server in (("reference", published), ("reference, no DDL", without_ddl)):
                theirs = stack.enter_context(server)
                contestants.append(await _contestant(name, cg_of(python), theirs, 5))
        else:
            findings.absent.append(absent("reference"))
        for _ in range(options.rounds):
            child_seconds = _child_seconds(folder)
            findings.add("the child", "its own time", "ms", child_seconds * 1000)
            answer_seconds = _answer_seconds(folder)
            findings.add("the command that stays", "its own time", "ms", answer_seconds * 1000)
            for contestant in contestants:
                for count in (1, _AGENTS):
                    rate = await _rate(contestant, contestant.agents[:count], folder)
                    findings.add(contestant.name, "turns, by agents", "1/s", rate, at=count)
                    if count == 1:
                        own = answer_seconds if contestant.is_resident else child_seconds
                        above = 1 / rate - own
                        findings.add(
                            contestant.name, f"a turn above {contestant.own_time}", "ms", above * 1000
                        )
    _check_goals(findings)
    return findings


async def _contestant(
    name: str, cg: Sequence[str], server: Server, turn_count: int, *, is_resident: bool = False
) -> Contestant:
    agents = [await server.admit(f"bench-loop-{secrets.token_hex(2)}") for _ in range(_AGENTS)]
    return Contestant(name, cg, server, agents, turn_count, is_resident)


def _child_seconds(folder: Path) -> float:
    """What the command takes when it is just run."""
    environment, took = {**os.environ, "CG_FINAL_FILE": str(folder / "final.json")}, []
    for _ in range(_OWN_RUNS):
        begun = time.perf_counter()
        subprocess.run(["sh", folder / RUNTIME], env=environment, check=True)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def _answer_seconds(folder: Path) -> float:
    """What the command that stays takes for an answer to a line of a turn's size."""
    line, took = b'{"id":1,"input":"' + b"x" * _LINE_BYTES + b'"}\n', []
    pipe = subprocess.PIPE
    with subprocess.Popen(["sh", folder / RESIDENT_RUNTIME], stdin=pipe, stdout=pipe, bufsize=0) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        for _ in range(_OWN_ANSWERS):
            begun = time.perf_counter()
            command.stdin.write(line)
            command.stdout.readline()
            took.append(time.perf_counter() - begun)
        command.stdin.close()
    return statistics.median(took)


async def _rate(contestant: Contestant, agents: Sequence[Agent], folder: Path) -> float:
    """Turns closed a second, while the loops of all these agents were at work."""
    async with callers(contestant.server, agents) as found:
        turns = await asyncio.gather(*(_dispatched(caller, contestant.turn_count) for caller in found))
    with loops(contestant.cg, contestant.server, agents, folder, is_resident=contestant.is_resident):
        closes = await asyncio.wait_for(_closes(contestant.server, agents, turns), _MOST_SECONDS)
    begun, over = max(each[0] for each in closes), min(each[-1] for each in closes)
    closed_count = sum(begun < at <= over for each in closes for at in each)
    return closed_count / (over - begun)


async def _dispatched(caller: Caller, count: int) -> list[str]:
    return [(await caller.dispatch(caller.agent))["turn_id"] for _ in range(count)]


async def _closes(server: Server, agents: Sequence[Agent], turns: list[list[str]]) -> list[list[float]]:
    """When the turns of each agent were closed, in order, once all of them are."""
    while True:
        async with callers(server, agents) as found:
            lasts = [await caller.get(f"/turns/{ids[-1]}") for caller, ids in zip(found, turns, strict=True)]
            if all(turn["state"] == "closed" for turn in lasts):
                return [
                    sorted([_instant(await caller.get(f"/turns/{turn_id}")) for turn_id in ids])
                    for caller, ids in zip(found, turns, strict=True)
                ]
        await asyncio.sleep(_LOOK_SECONDS)


def _instant(turn: dict[str, str]) -> float:
    return datetime.fromisoformat(turn["updated_at"]).timestamp()


def _check_goals(findings: Findings) -> None:
    above = findings.median("cgworker", "a turn above its child")
    findings.judge_most("≤ 5 ms above the child", above, "ms", most=5)
    above = findings.median(_RESIDENT, "a turn above its own answer")
    findings.judge_most("a command that stays: ≤ 2.5 ms above its own answer", above, "ms", most=2.5)
    for who, count, least in (("cgworker", 1, 25), ("cgworker", _AGENTS, 25), (_RESIDENT, 1, 45)):
        ours, theirs = (findings.median(each, "turns, by agents", at=count) for each in (who, "reference"))
        whose = "" if who == "cgworker" else "a command that stays: "
        goal = f"{whose}≥ {least} × the reference's turns/s, {count} agent{'s' if count > 1 else ''}"
        findings.judge_ratio(goal, ours / theirs, least=least)


if __name__ == "__main__":
    main(ROW, measure)
