"""SIGTERM and SIGINT from a worker's first moments on: none is lost before somebody can drain for it.

A worker needs some tenths of a second to be ready. A deploy that ends it meanwhile must meet a worker that
ends in order, and not one that dies of the signal. Imports nothing but the standard library, for the sake
of those tenths.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a worker in order; the second of them at once."""

_held: list[int] = []


@contextmanager
def held() -> Iterator[None]:
    """Within the block remember signals instead of dying of them, until other handlers take their place.

    Those that nobody has taken are raised again at its end. In a thread other than the main one it does
    nothing: signals are the main thread's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    hold()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for untold in take_held():
            signal.raise_signal(untold)


def hold() -> None:
    """From now on remember signals; for the main thread."""
    for number in ENDING:
        signal.signal(number, lambda number, _: _held.append(number))


def take_held() -> list[int]:
    """The signals that came since, oldest first; each is told once."""
    taken = _held[:]
    del _held[: len(taken)]
    return taken
