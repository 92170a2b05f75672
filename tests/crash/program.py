"""A worker that kills itself with SIGKILL at one step: `program.py URL PROJECT TOKEN RUNS OUTBOX WHEN STEP`.

It says to the file RUNS that its handler ran. Without a kill, it says how many steps there were.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

import cgworker
from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions

_OURS = str(Path(cgworker.__file__).parent)
_STEPS_IN = ("worker", "client", "private.py", "group_commit.py")


class Steps:
    """Counts the steps once it has begun, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self._last = last
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
        if not _is_ours(frame.f_code.co_filename):
            return None
        if event == "line":
            with self._lock:
                self.count += 1
                if self.count == self._last:
                    os.kill(os.getpid(), signal.SIGKILL)
        return self._trace


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS) and filename[len(_OURS) + 1 :].startswith(_STEPS_IN)


async def main(url: str, project: str, token: str, runs: str, outbox: str, when: str, step: str) -> None:
    """Work one turn."""
    policy: Any = when
    steps = Steps(int(step))
    async with KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token) as kernel:
        worker = Worker(kernel, options=WorkerOptions(outbox_path=Path(outbox), outbox=policy))

        @worker.turn()
        async def handle(turn: Turn) -> dict[str, Any]:
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
