"""A program's last line: signals end its workers in order, from its first moment to its last."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import CommandHandler, KernelClient, Worker, run, signals
from cgworker.errors import CommandNotFound
from cgworker.worker.process.serve import watch_signals
from tests.turns import AGENT

PROGRAM = """
import signal, sys
from cgworker import AgentRef, KernelClient, Worker, signals
import cgworker.worker.process.serve as serve
async def handle(turn): ...
kernel = KernelClient("http://127.0.0.1:9", agent=AgentRef(project_id="p", agent_id="a"), token="t")
worker = Worker(kernel)
worker.turn()(handle)
leave = serve.run_below_pid1
serve.run_below_pid1 = lambda: (leave(), signal.raise_signal(signal.SIGTERM))  # before any event loop
serve.run(worker, backend=sys.argv[1])
print("ended in order")
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_that_is_told_to_end_in_its_first_moments_ends_in_order(
    backend: str, tmp_path: Path
) -> None:
    """Exit status 0, not death by the signal; it claims nothing, so that it does not need its kernel."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", PROGRAM, backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", "XDG_STATE_HOME": str(tmp_path)},
    )
    assert (ended.returncode, ended.stdout) == (0, "ended in order\n"), ended.stderr
    assert "ResourceWarning" not in ended.stderr


def test_what_ends_a_worker_is_raised_as_it_is() -> None:
    """A program can catch it; task groups are our own affair."""
    worker = Worker(KernelClient("http://127.0.0.1:9", agent=AGENT, token="t"), CommandHandler(["/no/such"]))
    with pytest.raises(CommandNotFound):
        run(worker)


async def drained(raise_it: Any) -> list[bool]:
    """What `watch_signals` tells when signals come."""
    told: list[bool] = []
    with signals.deferred_signals():
        async with anyio.create_task_group() as group:
            await group.start(watch_signals, told.append)
            for n in (1, 2):
                raise_it()
                with anyio.fail_after(60):
                    while len(told) < n:  # noqa: ASYNC110  # told in another task
                        await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    return told


async def test_the_first_signal_drains_and_the_second_hurries() -> None:
    """Whichever they are."""
    assert await drained(lambda: signal.raise_signal(signal.SIGTERM)) == [False, True]


async def test_without_signals_for_event_loops_they_are_heard_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows: no `add_signal_handler`, so held signals are looked for now and then."""

    def missing(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(anyio, "open_signal_receiver", missing)
    assert await drained(lambda: signal.raise_signal(signal.SIGINT)) == [False, True]
