"""Interrupt a turn's handler: how the worker ends it, and how the handler can react."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import anyio

from cgworker.lease import Interrupted, Interruption, Lease, Reason


class Interruptible:
    """The part of a `Turn` that can be interrupted.

    Args:
        lease: bounds how long a handler can shield itself.

    Attributes:
        interruption: why the handler is being ended; None if it is not.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._interrupt_hooks: list[Callable[[Interruption], None]] = []
        self._shielded_until = -math.inf
        self.interruption: Interruption | None = None

    @property
    def stop_requested(self) -> bool:
        """Whether a stop of the turn was requested."""
        return self.interruption is not None and self.interruption.reason is Reason.STOP

    def check(self) -> None:
        """End here if the turn is being interrupted: handlers in threads call it now and then.

        Raises:
            Interrupted: the turn is being interrupted. Do not catch it.
        """
        if self.interruption is not None:
            raise Interrupted(self.interruption)

    @contextmanager
    def shield(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Finish something although the turn is being interrupted: `with turn.shield(5): await save()`.

        Args:
            seconds: how long the block may take at most; the end of the lease ends it sooner.
        """
        with anyio.move_on_after(min(seconds, max(self._lease.seconds_left, 0)), shield=True) as scope:
            self._shielded_until = max(self._shielded_until, scope.deadline)
            yield scope

    @property
    def shielded_seconds(self) -> float:
        """How many seconds a `shield` may still take at most; 0 if there is none."""
        return max(self._shielded_until - anyio.current_time(), 0)

    def interrupt(self, reason: Reason, note: str | None = None, *, grace_seconds: float = 0.0) -> None:
        """End the handler; the worker calls this. The first reason stands, but a lost lease outranks it.

        Args:
            reason: why.
            note: why, for people.
            grace_seconds: how long the handler has to end by itself.
        """
        if self.interruption is not None and reason is not Reason.LEASE_LOST:
            return
        if self.interruption is not None and self.interruption.reason is Reason.LEASE_LOST:
            return
        self.interruption = Interruption(reason, note, grace_seconds)
        for hook in list(self._interrupt_hooks):
            hook(self.interruption)

    def on_interrupt(self, hook: Callable[[Interruption], None]) -> AbstractContextManager[None]:
        """Call a hook at each interruption within the block, and at once if there was one before.

        Args:
            hook: called in the worker's own task; it must not block.
        """
        return _Hooked(self, self._interrupt_hooks, hook)


class _Hooked:
    """Has a hook among those of a turn within a block. A class, since it costs less than a generator."""

    __slots__ = ("_hook", "_hooks", "_turn")

    def __init__(
        self,
        turn: Interruptible,
        hooks: list[Callable[[Interruption], None]],
        hook: Callable[[Interruption], None],
    ) -> None:
        self._turn = turn
        self._hooks = hooks
        self._hook = hook

    def __enter__(self) -> None:
        if self._turn.interruption is not None:
            self._hook(self._turn.interruption)
        self._hooks.append(self._hook)

    def __exit__(self, *_: object) -> None:
        self._hooks.remove(self._hook)
