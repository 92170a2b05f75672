"""Event loops whose time jumps to the next timer as soon as nothing else is left to do.

An hour of renewals passes in no time. `anyio.current_time` is the clock of both.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing

JUMPING = ["asyncio", "trio"]


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


def jumping_backend(name: str) -> tuple[str, dict[str, Any]]:
    """A value for anyio's `anyio_backend` fixture."""
    if name == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": _JumpingLoop}
