"""Signals in a process's first moments are remembered, and given back when nobody wanted them."""

from __future__ import annotations

import signal

import pytest

from cgworker import signals


def test_a_held_signal_is_told_once() -> None:
    """To whoever watches by then."""
    with signals.deferred_signals():
        signal.raise_signal(signal.SIGTERM)
        assert signals.take_deferred() == [signal.SIGTERM]
        assert signals.take_deferred() == []


def test_a_signal_that_nobody_took_does_what_it_would_have_done() -> None:
    """It is late, not lost."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt), signals.deferred_signals():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_as_they_were_afterwards() -> None:
    """A program goes on after `run()`."""
    before = signal.getsignal(signal.SIGTERM)
    with signals.deferred_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
