"""SIGTERM and SIGINT from a worker's first moments on: none is lost before somebody can drain for it.

A worker needs some tenths of a second to be ready. A deploy that ends it meanwhile must meet a worker that
ends in order, and not one that dies of the signal. Imports nothing but the standard library, for the sake
of those tenths.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a worker in order; the second of them at once."""

_deferred: list[int] = []
_before: dict[int, Any] = {}
_forking = threading.local()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Within the block remember signals instead of dying of them, until other handlers take their place.

    Those that nobody has taken are raised again at its end. In a thread other than the main one it does
    nothing: signals are the main thread's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    _before.update(before)
    defer_signals()
    try:
        yield
    finally:
        _before.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
        for untold in take_deferred():
            signal.raise_signal(untold)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in ENDING}


def defer_signals() -> None:
    """From now on remember signals; for the main thread."""
    for number in ENDING:
        signal.signal(number, lambda number, _: _deferred.append(number))


def take_deferred() -> list[int]:
    """The signals that came since, oldest first; each is told once."""
    taken = _deferred[:]
    del _deferred[: len(taken)]
    return taken


@contextmanager
def calling_on_signal(at_once: Callable[[], None]) -> Iterator[None]:
    """Within the block call `at_once` when a signal comes, before whoever handles it.

    It is called in the signal's handler, so also while the event loop stands still. In a thread other than
    the main one it does nothing.

    Args:
        at_once: what to do; only what a signal's handler may, which is next to nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _handlers()

    def hear(number: int, frame: Any) -> None:
        at_once()
        if callable(handler := handlers[number]):
            handler(number, frame)

    for each in ENDING:
        signal.signal(each, hear)
    try:
        yield
    finally:
        for each in ENDING:
            if signal.getsignal(each) is hear:
                signal.signal(each, handlers[each])


@contextmanager
def not_inherited() -> Iterator[None]:
    """Within the block a forked child has the signal handlers from before a worker began to listen.

    Else `terminate()` would not end it: its parent's event loop would be told of the signal instead, by the
    pipe that they share, and would drain. In a thread other than the main one it does nothing.
    """
    if not hasattr(os, "register_at_fork") or threading.current_thread() is not threading.main_thread():
        yield
        return
    _inherited.append(dict(_before) or _handlers())
    _register_at_fork()
    try:
        yield
    finally:
        _inherited.pop()


_inherited: list[dict[int, Any]] = []
"""The handlers from before a worker began to listen, while one does."""


def _hold_back() -> None:
    """A signal that comes while a child is made waits until the child is itself."""
    if _inherited:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _let_through() -> None:
    if (mask := vars(_forking).pop("mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _be_itself() -> None:
    if _inherited:
        signal.set_wakeup_fd(-1)
        for number, handler in _inherited[0].items():
            signal.signal(number, handler)
        _inherited.clear()
    _let_through()


_is_registered = False


def _register_at_fork() -> None:
    global _is_registered
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_be_itself)
