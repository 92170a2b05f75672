"""Adapters: handlers for a foreign harness, such as an agent framework or a coding agent.

An adapter defines three steps: prepare the harness for a turn, drive it, and interrupt it. This module does
the rest: it appends records under the fence, always closes what the adapter prepared, and cancels a harness
that does not follow an interruption.
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

_GRACE_FRACTION = 0.75  # the rest of the grace is for closing what was prepared


@frozen
class Record:
    """A process record with a role of its own; `Adapter.drive` yields it.

    Attributes:
        payload: any JSON value, or an object of an attrs class or a dataclass.
        role: the record's role.
    """

    payload: Any
    role: str


@frozen
class Output:
    """The result of the turn; `Adapter.drive` yields it last.

    Attributes:
        value: what a handler would return: a plain value, an outcome such as `fail({...})`, or None.
    """

    value: Any = None


class NoOutput(Exception):
    """An adapter's `drive` ended without an `Output`. This is the adapter's fault, and fails the turn."""


class Adapter(Generic[Prepared]):
    """Base class for adapters: derive from it, and pass an object to `AdapterHandler`.

    One object serves all turns of a worker, several at once: keep the state of a turn in the value that
    `prepare` yields. An exception from a method is treated as one that a handler raised.
    """

    def prepare(self, turn: Turn) -> AbstractAsyncContextManager[Prepared]:
        """Prepare the harness, as an `@asynccontextmanager`; the code after its `yield` always runs.

        Start background tasks here, in a task group around the `yield`, and not in `drive`.

        Args:
            turn: the turn.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is prepared")

    def drive(self, turn: Turn, prepared: Prepared) -> AsyncGenerator[Any, None]:
        """Work the turn, as an async generator that yields process records, and an `Output` last.

        A yielded value becomes a public record of role "progress", and a `Record` one of its own role. All of
        `Turn` can be used. `turn.children` and `turn.ask` unwind the generator, and a later attempt starts
        again with `prepare`.

        Args:
            turn: the turn.
            prepared: the value that `prepare` yielded.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is driven")

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:  # noqa: ARG002
        """Tell the harness to end while `drive` runs. Its `Output` counts if the reason allows it.

        Args:
            turn: the turn; `turn.fingerprint` is a key for what `prepare` keeps.
            interruption: the reason, and the seconds of grace.

        Returns:
            True if `drive` ends by itself within the grace. False, the default, cancels it now.
        """
        return False

    def forget(self, turn: Turn) -> None:
        """Remove what was kept for further attempts: the turn is closed. The default does nothing.

        Args:
            turn: the closed turn.
        """


class AdapterHandler(Generic[Prepared]):
    """Runs an adapter on each turn: `worker.add("turn.conversation.v1", AdapterHandler(MyAdapter()))`.

    Args:
        adapter: the adapter.
    """

    def __init__(self, adapter: Adapter[Prepared]) -> None:
        self.adapter: Adapter[Prepared] = adapter

    def __repr__(self) -> str:
        return f"AdapterHandler({type(self.adapter).__name__})"

    def check(self) -> None:
        """Check before the first claim that the adapter can run, by its own `check()` if it has one.

        Raises:
            UsageError: the adapter lacks something that it needs.
        """
        if (check := getattr(self.adapter, "check", None)) is not None:
            check()

    def forget(self, turn: Turn) -> None:
        """Tell the adapter that the turn is closed; see `Adapter.forget`."""
        self.adapter.forget(turn)

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the harness on a turn, and return its outcome.

        Args:
            turn: the turn.

        Raises:
            Interrupted: the handler is being ended, and the harness has been told.
        """
        # The worker cancels a handler at once. The shield leaves time to tell the harness first.
        with anyio.CancelScope(shield=True) as driving:
            async with _passing_interruptions_on(turn, self.adapter, driving):
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
async def _passing_interruptions_on(
    turn: Turn, adapter: Adapter[Any], driving: anyio.CancelScope
) -> AsyncIterator[None]:
    """Pass interruptions on while the block runs. An exception of the block is not wrapped in a group."""
    raised: BaseException | None = None
    async with anyio.create_task_group() as background:

        def begin_to_end(interruption: Interruption) -> None:
            background.start_soon(_end, turn, adapter, interruption, driving)

        try:
            with turn.on_interrupt(begin_to_end):
                yield
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            raised = error
        background.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _end(
    turn: Turn, adapter: Adapter[Any], interruption: Interruption, driving: anyio.CancelScope
) -> None:
    """Tell the harness to end; cancel it if it does not end in time, or cannot be told."""
    with anyio.move_on_after(interruption.grace_seconds * _GRACE_FRACTION):
        try:
            if await adapter.interrupt(turn, interruption):
                await anyio.sleep_forever()
        except Exception:  # the harness itself may be broken
            logger.exception("%s: the harness could not be told to end, it is cancelled", turn.ref)
    driving.cancel()
