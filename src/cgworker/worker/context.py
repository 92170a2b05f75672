"""What the attempts of a worker share, and what each of them leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from attrs import field, frozen

from cgworker.client import KernelClient
from cgworker.events import Listener, logger
from cgworker.lease import Interruption
from cgworker.outcome import Outcome
from cgworker.turn import Turn
from cgworker.wire.refs import TurnRef
from cgworker.worker.disk_space import Room
from cgworker.worker.interruption import is_the_workers_own
from cgworker.worker.kernel_time import KernelTime
from cgworker.worker.options import WorkerOptions
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.routing import Middleware, Routes


@frozen(kw_only=True)
class TurnReport:
    """What became of one attempt at a turn.

    Attributes:
        turn: which turn.
        kind: its turn kind; None if its context could not be read.
        attempt: which attempt this was, from 1.
        outcome: what was settled, or would have been; None if there was nothing to settle.
        settled: whether the kernel has it.
        interruption: why the handler was ended, if it was.
        redelivered: the outcome came from the outbox, and the handler was not run.
        reason: why it is not settled, if it is not.
        kept_at: where an unsettled result waits.
        seconds: how long it took, from the claim on.
        error: what ends the worker, if anything (difference 17).
    """

    turn: TurnRef
    kind: str | None = None
    attempt: int = 1
    outcome: Outcome | None = None
    settled: bool = False
    interruption: Interruption | None = None
    redelivered: bool = False
    reason: str | None = None
    kept_at: str | None = None
    seconds: float = 0.0
    error: BaseException | None = field(default=None, eq=False)


async def _do_nothing(*_: object) -> None:
    pass


@frozen(kw_only=True)
class RunContext:
    """What all attempts of a worker share.

    `renewing` is the same kernel on connections of its own, so that nothing else can hold up a renewal.
    `kernel_time` is what its answers say of its clock.
    `shared_slots` are how many handlers may run at once, together with other workers; None is no such limit.
    """

    kernel: KernelClient
    renewing: KernelClient
    routes: Routes
    outbox: Outbox
    room: Room
    options: WorkerOptions
    kernel_time: KernelTime = field(factory=KernelTime)
    listener: Listener | None = None
    shared_slots: anyio.Semaphore | None = None
    middleware: tuple[Middleware, ...] = ()
    on_claimed: Callable[[Turn], Awaitable[None]] = _do_nothing
    on_interrupted: Callable[[Turn, Interruption], Awaitable[None]] = _do_nothing


async def tell(hook: Callable[..., Awaitable[None]], *facts: object) -> None:
    """Call a hook of the user's; what it raises is logged and harms no turn."""
    try:
        await hook(*facts)
    except BaseException as raised:
        if is_the_workers_own(raised):
            raise
        logger.exception("the hook %s failed", getattr(hook, "__name__", hook))
