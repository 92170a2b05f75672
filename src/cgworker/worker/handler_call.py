"""Call a handler beside its attempt, so that a handler that does not end delays nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from cgworker.errors import HandlerFailed
from cgworker.events import mark_logs
from cgworker.handlers import BaseCommandHandler, FunctionHandler, Handler
from cgworker.handlers.forked import EndingForkedChildren
from cgworker.lease import Interruption, Lease, Reason
from cgworker.outcome import (
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    Suspended,
    Suspending,
    outcome_of,
    plain_outcome,
)
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import check_json
from cgworker.worker.interruption import catching_suspension, is_the_workers_own, suspension_in
from cgworker.worker.routing import Middleware

_UNWINDING_SECONDS = 2.0
"""How many seconds beyond its grace a handler may take, such as to read the rest of a child's output."""

_WRITING_SECONDS = 10.0
"""How many seconds what is being written may take when the handler has ended otherwise than by returning."""


class HandlerCall:
    """One call of a handler with its turn: start `call.run()`, and unless it is over, `await call.end()`.

    Args:
        turn: the turn.
        handler: the handler, with middleware around it.

    Attributes:
        is_over: whether the handler has ended.
        outcome: the handler's outcome; None if the handler was cancelled, raised, or still runs.
        raised: the exception that the handler raised, if any.
        is_stuck: whether the handler did not end in the time that an interruption gave it.
    """

    def __init__(self, turn: Turn, handler: Handler) -> None:
        self._turn = turn
        self._handler = handler
        self.is_over: bool = False
        self._changed: anyio.Event | None = None  # there is one while `end` waits
        self.outcome: Outcome | None = None
        self.raised: BaseException | None = None
        self.is_stuck: bool = False

    async def run(self) -> None:
        """Call the handler, in a context of its own. Nothing is raised but the worker's own cancellation."""
        turn = self._turn
        mark_logs(turn=turn.ref, agent=turn.agent, attempt=turn.attempt)
        try:
            with (
                EndingForkedChildren(),
                anyio.CancelScope() as scope,
                turn.on_interrupt(lambda _: scope.cancel()),
            ):
                self.outcome = await self._handler(turn)
        except BaseException as raised:
            if is_the_workers_own(raised) and not isinstance(raised, KeyboardInterrupt):
                raise
            self.raised = _with_json(raised)
        finally:
            self.is_over = True
            if self._changed is not None:
                self._changed.set()

    async def end(self) -> None:
        """Wait until the handler has ended, or the time that an interruption gave it is over."""
        self._changed = changed = anyio.Event()
        with self._turn.on_interrupt(lambda _: changed.set()):
            await changed.wait()
        if not self.is_over:
            await self._end_interrupted()

    async def _end_interrupted(self) -> None:
        turn, ended = self._turn, anyio.Event()
        self._changed = ended
        with (
            anyio.CancelScope() as waiting,
            turn.on_interrupt(lambda interruption: _bound(waiting, interruption)),
        ):
            await ended.wait()
        while waiting.cancelled_caught and not self.is_over and turn.shielded_seconds > 0:
            with anyio.move_on_after(turn.shielded_seconds):
                await ended.wait()
        self.is_stuck = not self.is_over


def _with_json(raised: BaseException) -> BaseException:
    """Return what was raised, or the JSON error if the payload of a `HandlerFailed` is not JSON."""
    if isinstance(raised, HandlerFailed):
        try:
            check_json(raised.payload)
        except (TypeError, ValueError, RecursionError) as invalid:
            return invalid
    return raised


def _bound(waiting: anyio.CancelScope, interruption: Interruption) -> None:
    seconds = interruption.grace_seconds + _UNWINDING_SECONDS
    waiting.deadline = min(waiting.deadline, anyio.current_time() + seconds)


async def end_writes(turn: Turn, lease: Lease) -> None:
    """Let what is still being written when a handler was cancelled or has raised come to its end.

    Args:
        turn: the turn.
        lease: bounds the time.
    """
    is_lost = turn.interruption is not None and turn.interruption.reason is Reason.LEASE_LOST
    await turn.writes.end(0 if is_lost else min(_WRITING_SECONDS, max(lease.seconds_left, 0)))


def wrap_handler(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """Wrap a handler in middleware, with suspensions by `turn.ask` and `turn.children` as outcomes.

    Args:
        handler: the handler.
        middleware: runs around it, the first one outermost.
    """
    wrapped = _with_checked_outcome(handler)
    if not middleware:
        return wrapped
    for each in reversed(middleware):
        wrapped = _in_middleware(each, wrapped)
    return catching_suspension(wrapped)


def _in_middleware(middleware: Middleware, call_next: Handler) -> Handler:
    async def call(turn: Turn) -> Outcome:
        return plain_outcome(outcome_of(await middleware(turn, call_next)))

    return call


def _with_checked_outcome(handler: Handler) -> Handler:
    """Wrap a handler so that it raises at once if its outcome could not be settled.

    A suspension of the turn counts even if the handler caught `Suspending`.
    """
    gives_json = isinstance(handler, FunctionHandler | BaseCommandHandler)

    async def call(turn: Turn) -> Outcome:
        try:
            outcome = await handler(turn)
            if turn.is_writing:
                await turn.writes.over()
            _check(outcome, gives_json=gives_json)
        except (Suspending, BaseExceptionGroup) as raised:
            return suspension_in(raised, turn)
        return turn.suspension or outcome

    return call


def _check(outcome: Any, *, gives_json: bool) -> None:
    """Check that an outcome can be settled.

    Raises:
        TypeError, ValueError: it is not an outcome, or its content is not JSON: the handler's fault.
    """
    if isinstance(outcome, Suspended):
        if not isinstance(outcome.reason, str) or not isinstance(outcome.note, str | None):
            raise TypeError(f"a suspension's reason and note are texts: {outcome!r}")
        check_json(dict(outcome.annotations))
    elif not isinstance(outcome, Succeeded | Failed | Stopped):
        raise TypeError(f"a handler ends with succeed(), fail(), stop() or suspend(), not with {outcome!r}")
    elif not gives_json:
        check_json(None if outcome.payload is ABSENT else outcome.payload)


@asynccontextmanager
async def slot_of(slots: anyio.Semaphore, turn: Turn) -> AsyncIterator[None]:
    """Hold a slot for the block. An interruption ends the wait, and the block then runs without a slot."""
    with anyio.CancelScope() as waiting, turn.on_interrupt(lambda _: waiting.cancel()):
        await slots.acquire()
    try:
        yield
    finally:
        if not waiting.cancelled_caught:
            slots.release()
