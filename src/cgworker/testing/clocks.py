"""Virtual time: where everybody sleeps, it jumps to the next timer, so that an hour passes at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, time jumps instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def virtual_time(backend: str = "asyncio") -> tuple[str, dict[str, Any]]:
    """A value for anyio's `anyio_backend` fixture, or `backend` and `backend_options` of `anyio.run`.

    For handlers and for `play()`. Threads, sockets and commands take their real time and see timers run out
    at once, so it is not for a real kernel.

    Args:
        backend: "asyncio" or "trio".
    """
    if backend == "trio":
        import trio.testing  # only who tests on it has it

        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": _JumpingLoop}
