"""`RunContext`: what the attempts of a worker share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
from attrs import field, frozen

from cgworker.client import KernelClient
from cgworker.durable.private import PrivateSettings
from cgworker.events import Listener, logger
from cgworker.handlers import FunctionHandler
from cgworker.lease import Interruption
from cgworker.turn import Turn
from cgworker.worker.batching.calls import settlements_at
from cgworker.worker.disk_space import Room
from cgworker.worker.interruption import is_the_workers_own
from cgworker.worker.kernel_time import KernelTime
from cgworker.worker.options import WorkerOptions
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.routing import Routes
from cgworker.worker.settle import Settling


@frozen(kw_only=True)
class RunContext:
    """What the attempts of a worker share.

    Attributes:
        kernel: the kernel, with the agent's identity.
        renewing: the same kernel on connections of its own, so that no other call can delay a renewal.
        routes: the handlers by turn kind.
        wrapped: the same, each handler with middleware around it.
        outbox: stores results until the kernel has them.
        room: the state of the folders that the worker writes to.
        options: the worker's options.
        settling: what they finish their turns with.
        private_settings: the settings of private values.
        kernel_time: the kernel's clock, by its answers.
        listener: called with every event.
        hears_turns: whether the listener is to get the events of single turns; a busy worker makes none that
            nobody hears.
        shared_slots: limits the handlers that run at once, together with other workers; None is no limit.
        on_claimed: the user's hook for a turn that is about to be worked, if there is one.
        on_interrupted: the user's hook for a handler that was ended early, if there is one.
        checks: raise if a handler cannot run any more, such as for lack of its command.
        may_forget: whether a handler keeps anything of a turn until it is closed.
    """

    kernel: KernelClient
    renewing: KernelClient
    routes: Routes
    wrapped: Routes
    outbox: Outbox
    room: Room
    options: WorkerOptions
    settling: Settling = field(init=False)
    private_settings: PrivateSettings = field(init=False)
    kernel_time: KernelTime = field(factory=KernelTime)
    listener: Listener | None = None
    hears_turns: bool = True
    shared_slots: anyio.Semaphore | None = None
    on_claimed: Callable[[Turn], Awaitable[None]] | None = None
    on_interrupted: Callable[[Turn, Interruption], Awaitable[None]] | None = None
    checks: Sequence[Callable[[], None]] = field(init=False)
    may_forget: bool = field(init=False)

    @settling.default
    def _settling_by_options(self) -> Settling:
        assert self.kernel.agent is not None  # a worker has one
        batch = settlements_at(self.kernel, self.kernel.agent.project_id)
        return Settling(self.outbox, batch, self.options.max_payload_bytes, self.options.storing)

    @checks.default
    def _checks_of_handlers(self) -> Sequence[Callable[[], None]]:
        handlers = [each for each in self.routes.handlers if not isinstance(each, FunctionHandler)]
        return [each.check for each in handlers if hasattr(each, "check")]

    @may_forget.default
    def _look_whether_any_forgets(self) -> bool:
        return any(hasattr(each, "forget") for each in self.routes.handlers)

    @private_settings.default
    def _settings_of_options(self) -> PrivateSettings:
        return self.options.private_settings


async def call_hook(hook: Callable[..., Awaitable[None]], *facts: object) -> None:
    """Call a hook of the user's. An exception that it raises is logged and does not affect the turn."""
    try:
        await hook(*facts)
    except BaseException as raised:
        if is_the_workers_own(raised):
            raise
        logger.exception("the hook %s failed", getattr(hook, "__name__", hook))
