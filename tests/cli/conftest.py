"""`cg` run in this process with a home of its own, and a real kernel to run it against."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Unpack

import pytest
from anyio.from_thread import BlockingPortal
from attrs import field, frozen

from cgworker.cli.app import run
from cgworker.events import logger
from cgworker.private import replace_private
from cgworker.profiles import (
    ConfigFile,
    Profile,
)
from cgworker.testing import LocalKernel
from cgworker.wire.order import Order
from cgworker.wire.refs import TurnRef
from tests.kernels import SharedKernel


@frozen
class Ran:
    """What a command line came to."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def envelope(self) -> Any:
        """Its one line of JSON."""
        assert self.stdout.endswith("\n")
        assert self.stdout.count("\n") == 1
        return json.loads(self.stdout)

    @property
    def result(self) -> Any:
        """What it answered."""
        assert self.envelope["ok"], self
        return self.envelope["result"]

    @property
    def error(self) -> Any:
        """Why it failed."""
        assert not self.envelope["ok"], self
        return self.envelope["error"]


@frozen
class Cg:
    """Runs `cg` in this process, or starts it as another."""

    home: Path
    started: list[subprocess.Popen[bytes]] = field(factory=list, repr=False)

    def start(self, program: str, *argv: str, code: str | None = None) -> subprocess.Popen[bytes]:
        """Start `cg`, or code, by this Python; what still runs at the test's end is killed."""
        process = subprocess.Popen(
            [program, *(("-c", code) if code else ("-m", "cgworker")), *argv],
            env={**os.environ, "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def __call__(self, *argv: str, stdin: str = "") -> Ran:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin.encode()))
        level = logger.level  # a command may set it, for the process that it thinks is its own
        try:
            with redirect_stdout(out), redirect_stderr(err):
                exit_code = run(argv)
        finally:
            sys.stdin = before
            logger.setLevel(level)
        return Ran(exit_code, out.buffer.getvalue().decode(), err.getvalue())


# typer takes this variable in and out of the environment at each command, which other threads of this
# process may be reading; it leaves one that is there.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"


@pytest.fixture
def cg(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cg]:
    """`cg` with an empty home and an environment that leads nowhere."""
    for name in os.environ:
        if name.startswith(("CG_", "PG", "XDG_")):
            monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="cg-home-") as home:
        monkeypatch.setenv("HOME", home)
        cg = Cg(Path(home))
        yield cg
        for process in cg.started:  # a test that fails leaves nothing for the next to be blamed for
            process.kill()
            with process:
                pass


@frozen
class Kernel:
    """A real kernel, for tests that do not await."""

    portal: BlockingPortal = field(repr=False)
    local: LocalKernel

    @property
    def url(self) -> str:
        return self.local.base_url

    @property
    def project(self) -> str:
        return self.local.project_id

    def profile(self, cg: Cg, agent_id: str, **spec: Any) -> str:
        """A profile in the home of `cg` for an agent, who is registered if new; returns its name."""
        client = self.portal.call(lambda: self.local.agent(agent_id, **spec))
        token = client.secrets[0]
        self.portal.call(client.aclose)
        path = cg.home / f"{agent_id}.token"
        replace_private(path, token + "\n")
        config = ConfigFile.locate()
        profile = Profile(project_id=self.project, agent_id=agent_id, token_file=path)
        config.save_profile(profile)
        config.update(lambda content: content.update(base_url=self.url))
        return profile.name

    def dispatch(self, agent_id: str, input: Any = "hi", **order: Unpack[Order]) -> str:
        """Give an agent a turn; returns its id."""
        turn: TurnRef = self.portal.call(lambda: self.local.dispatch(agent_id, input, **order))
        return turn.turn_id

    def set_metadata(self, profile: str, metadata: dict[str, Any]) -> None:
        """Replace an agent's public metadata, as the agent itself."""

        async def replace() -> None:
            async with await self.local.agent(profile.split("/")[1]) as client:
                assert client.agent is not None
                await client.agents.replace_metadata(client.agent, metadata)

        self.portal.call(replace)

    def end_lease(self, turn_id: str) -> None:
        """End the lease of a running turn now."""
        turn = TurnRef(project_id=self.project, turn_id=turn_id)
        self.portal.call(self.local.faults.steal_lease, turn)


@pytest.fixture(scope="module")
def kernel(portal: BlockingPortal, shared_kernel: SharedKernel) -> Iterator[Kernel]:
    """A project for the module; the kernel's reaper is off, so that tests say when a lease ends."""
    local = shared_kernel(reaper_seconds=0).new_project()
    yield Kernel(portal, local)
    portal.call(local.aclose)
