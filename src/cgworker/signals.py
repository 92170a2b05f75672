"""Defer SIGTERM and SIGINT from the start of a process until its workers can drain.

A worker needs some tenths of a second to start. If a deploy ends it meanwhile, it must still end in order and
not die of the signal. This module imports only the standard library, to be ready early.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that drain a worker; a second one drains it with no grace period."""

_deferred: list[int] = []
_before: dict[int, Any] = {}
_forking = threading.local()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer signals within the block, until other handlers take over.

    Signals that were not taken by `take_deferred` are raised again at its end. Outside the main thread this
    does nothing, since signals belong to the main thread.
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
    """Defer signals from now on; to be called in the main thread."""
    for number in ENDING:
        signal.signal(number, lambda number, _: _deferred.append(number))


def take_deferred() -> list[int]:
    """Return the deferred signals, oldest first, and forget them."""
    taken = _deferred[:]
    del _deferred[: len(taken)]
    return taken


@contextmanager
def calling_on_signal(at_once: Callable[[], None]) -> Iterator[None]:
    """Call `at_once` when a signal comes within the block, before the signal's other handler.

    It is called in the signal handler, so also while the event loop is blocked. Outside the main thread this
    does nothing.

    Args:
        at_once: what to do. It may do only what is safe in a signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _handlers()

    def on_signal(number: int, frame: Any) -> None:
        at_once()
        if callable(handler := handlers[number]):
            handler(number, frame)

    for each in ENDING:
        signal.signal(each, on_signal)
    try:
        yield
    finally:
        for each in ENDING:
            if signal.getsignal(each) is on_signal:
                signal.signal(each, handlers[each])


@contextmanager
def not_inherited() -> Iterator[None]:
    """Give children forked within the block the signal handlers from before the worker listened.

    Otherwise `terminate()` would not end a child, and its parent would drain: the signal would reach the
    parent's event loop by the pipe that they share. Outside the main thread this does nothing.
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
"""The signal handlers from before a worker listened; empty while none does."""


def _block_during_fork() -> None:
    """Block signals during a fork, until the child has its own handlers."""
    if _inherited:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _unblock() -> None:
    if (mask := vars(_forking).pop("mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _restore_handlers() -> None:
    if _inherited:
        signal.set_wakeup_fd(-1)
        for number, handler in _inherited[0].items():
            signal.signal(number, handler)
        _inherited.clear()
    _unblock()


_is_registered = False


def _register_at_fork() -> None:
    global _is_registered
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(
            before=_block_during_fork, after_in_parent=_unblock, after_in_child=_restore_handlers
        )
