"""Virtual time: when all tasks sleep, the clock jumps to the next timer, so that an hour passes at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the clock where the event loop would sleep."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready; if nothing is, advance the clock to the next timer.

        Args:
            timeout: the time until the next timer, in seconds.
        """
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
    """Return a value for anyio's `anyio_backend` fixture, or the arguments of `anyio.run`.

    Use it for handlers and for `play()`. Threads, sockets and commands take real time and see timers run
    out at once, so it does not work with a real kernel.

    Args:
        backend: "asyncio" or "trio".

    Returns:
        The backend and its `backend_options`.
    """
    if backend == "trio":
        import trio.testing  # optional: needed only for tests on trio

        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": _JumpingLoop}
