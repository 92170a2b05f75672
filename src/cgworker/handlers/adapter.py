"""Adapters: handlers for a foreign harness, such as an agent framework or a coding agent.

An adapter says three things: how the harness is made ready for a turn, how it is driven, and how it is told
to end. The rest is here: records are appended under the fence, what it made ready is put away whatever
happens, and an interruption that the harness does not follow ends it all the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
from attrs import frozen

from cgworker.events import logger
from cgworker.lease import Interrupted, Interruption
from cgworker.outcome import Outcome, outcome_of
from cgworker.turn import Turn

Prepared = TypeVar("Prepared")

_GRACE_FRACTION = 0.75  # what is left of the grace is for putting away what was prepared


@frozen
class Record:
    """Yielded by `Adapter.drive`: a process record of a role other than "progress".

    Attributes:
        payload: any JSON value, or an object of an attrs class or a dataclass.
        role: what kind of record it is.
    """

    payload: Any
    role: str


@frozen
class Output:
    """Yielded by `Adapter.drive` at last: what came of the turn.

    Attributes:
        value: as a handler would return it: a plain value, an outcome such as `fail({...})`, or nothing.
    """

    value: Any = None


class NoOutput(Exception):
    """An adapter's `drive` ended without an `Output`; a fault of the adapter, which fails the turn."""


class Adapter(Generic[Prepared]):
    """A foreign harness as a handler: derive from it, and give `AdapterHandler` an object of yours.

    One object serves all turns of a worker, several at once: keep what belongs to a turn in what `prepare`
    yields. An exception from any of its methods is the handler's, with all that follows from that.
    """

    def prepare(self, turn: Turn) -> AbstractAsyncContextManager[Prepared]:
        """Make the harness ready: an `@asynccontextmanager` whose end is reached whatever happens.

        Tasks beside the work belong here, in a task group around the `yield`, and not in `drive`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is prepared")

    def drive(self, turn: Turn, prepared: Prepared) -> AsyncGenerator[Any, None]:
        """Do the turn, as an async generator: yield process records, and at last an `Output`.

        What is yielded becomes a public record of role "progress", a `Record` one of its own role. All of
        `Turn` can be used. `turn.children` and `turn.ask` unwind it, and the handler begins again from the
        top, with `prepare`.

        Args:
            turn: the turn.
            prepared: what `prepare` yields.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is driven")

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:  # noqa: ARG002
        """Tell the harness to end, while `drive` goes on; its `Output` counts as far as the reason allows.

        Args:
            turn: the turn; `prepare` may have kept what belongs to it under `turn.fingerprint`.
            interruption: why, and how many seconds of grace there are.

        Returns:
            True to let `drive` end by itself within the grace. False, the default, cancels it now.
        """
        return False

    def forget(self, turn: Turn) -> None:
        """The turn is closed: remove what was kept for further attempts. By default, nothing."""


class AdapterHandler(Generic[Prepared]):
    """Runs an adapter on each turn: `worker.add("turn.conversation.v1", AdapterHandler(MyAdapter()))`.

    Args:
        adapter: which.
    """

    def __init__(self, adapter: Adapter[Prepared]) -> None:
        self.adapter: Adapter[Prepared] = adapter

    def __repr__(self) -> str:
        return f"AdapterHandler({type(self.adapter).__name__})"

    def check(self) -> None:
        """Refuse now what could not run later: the adapter's own `check()`, if it has one.

        Raises:
            UsageError: what the adapter cannot do without is missing.
        """
        if (check := getattr(self.adapter, "check", None)) is not None:
            check()

    def forget(self, turn: Turn) -> None:
        """The turn is closed; the adapter may forget it."""
        self.adapter.forget(turn)

    async def __call__(self, turn: Turn) -> Outcome:
        # The worker cancels a handler at once; behind this shield the harness is told first.
        with anyio.CancelScope(shield=True) as driving:
            async with _told_of_interruptions(turn, self.adapter, driving):
                return outcome_of(await self._drive(turn))
        assert turn.interruption is not None  # nothing else cancels that scope
        raise Interrupted(turn.interruption)

    async def _drive(self, turn: Turn) -> Any:
        async with (
            self.adapter.prepare(turn) as prepared,
            aclosing(self.adapter.drive(turn, prepared)) as steps,
        ):
            async for step in steps:
                if isinstance(step, Output):
                    return step.value
                await _record(turn, step)
        raise NoOutput(f"{type(self.adapter).__name__}.drive ended without yielding an Output")


async def _record(turn: Turn, step: Any) -> None:
    if isinstance(step, Record):
        await turn.record(step.payload, step.role)
    else:
        await turn.record(step)


@asynccontextmanager
async def _told_of_interruptions(
    turn: Turn, adapter: Adapter[Any], driving: anyio.CancelScope
) -> AsyncIterator[None]:
    """Pass interruptions on while the block runs; what the block raises gets out as it is, in no group."""
    raised: BaseException | None = None
    async with anyio.create_task_group() as beside:

        def begin_to_end(interruption: Interruption) -> None:
            beside.start_soon(_end, turn, adapter, interruption, driving)

        try:
            with turn.on_interrupt(begin_to_end):
                yield
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            raised = error
        beside.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _end(
    turn: Turn, adapter: Adapter[Any], interruption: Interruption, driving: anyio.CancelScope
) -> None:
    """Tell the harness; cancel it if it does not end by itself in time, or cannot be told."""
    with anyio.move_on_after(interruption.grace_seconds * _GRACE_FRACTION):
        try:
            if await adapter.interrupt(turn, interruption):
                await anyio.sleep_forever()
        except Exception:  # the harness may be what is broken
            logger.exception("%s: the harness could not be told to end, it is cancelled", turn.ref)
    driving.cancel()
