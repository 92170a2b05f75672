"""A worker that kills itself with SIGKILL at one step: `program.py URL PROJECT TOKEN RUNS OUTBOX WHEN STEP`.

It says to the file RUNS that its handler ran. Without a kill, it says how many steps there were. With "agent"
for WHEN, its handler makes private steps, and it is killed at a step of keeping them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

import cgworker
from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions

AGENTS_STEPS = ("first", "second", "third")
_OURS = str(Path(cgworker.__file__).parent)
_STEPS_IN = ("worker", "client", "private.py", "group_commit.py")
_KEEPING_IN = ("durable", "stores", "private.py", "client")


class Steps:
    """Counts the steps once it has begun, and kills the process at one of them."""

    def __init__(self, last: int, within: tuple[str, ...] = _STEPS_IN) -> None:
        self._last = last
        self._within = within
        self._lock = threading.Lock()
        self.count = 0

    def begin(self) -> None:
        """Count from here on, also in the functions that this was called by."""
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        frame = sys._getframe().f_back  # noqa: SLF001
        while frame is not None:
            frame.f_trace = self._trace
            frame = frame.f_back

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not _is_ours(frame.f_code.co_filename, self._within):
            return None
        if event == "line":
            with self._lock:
                self.count += 1
                if self.count == self._last:
                    os.kill(os.getpid(), signal.SIGKILL)
        return self._trace


def _is_ours(filename: str, within: tuple[str, ...]) -> bool:
    return filename.startswith(_OURS) and filename[len(_OURS) + 1 :].startswith(within)


async def agent(turn: Turn, runs: str, begin: Callable[[], None] = lambda: None) -> list[str]:
    """Make three private steps, as a model, a tool and a model are; `begin` is called within the first."""

    def make(key: str) -> str:
        _say(runs, key)
        begin()
        return f"{key} by {os.getpid()}"

    return [
        await turn.once(key, partial(make, key), private=True, ahead=True, acts=key == "second")
        for key in AGENTS_STEPS
    ]


async def main(url: str, project: str, token: str, runs: str, outbox: str, when: str, step: str) -> None:
    """Work one turn."""
    is_agent = when == "agent"
    policy: Any = "beside" if is_agent else when
    steps = Steps(int(step), _KEEPING_IN if is_agent else _STEPS_IN)
    async with KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token) as kernel:
        worker = Worker(kernel, options=WorkerOptions(outbox_path=Path(outbox), outbox=policy))

        @worker.turn()
        async def handle(turn: Turn) -> Any:
            if is_agent:
                return await agent(turn, runs, steps.begin)
            _say(runs, "killed")
            steps.begin()
            return {"by": "the killed one", "attempt": turn.attempt}

        await worker.once(wait_seconds=5)
    sys.settrace(None)
    threading.settrace(None)
    _say(runs, f"steps {steps.count}")


def _say(runs: str, text: str) -> None:
    with Path(runs).open("a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    anyio.run(partial(main, *sys.argv[1:]))
