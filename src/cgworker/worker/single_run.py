"""Work one claim, for `Worker.once()`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

from cgworker.renewal import RenewalScheduler
from cgworker.wire.refs import AgentRef
from cgworker.worker.attempt import Attempt
from cgworker.worker.claimed import FetchedClaim
from cgworker.worker.context import RunContext, call_hook
from cgworker.worker.drain import Drain
from cgworker.worker.handler_tasks import HandlerTasks
from cgworker.worker.turn_report import TurnReport


class SingleRun:
    """Works one claim. Made anew by each `Worker.once()`.

    Args:
        context: what the attempt uses.
        agent: the agent whose turn it is.
        on_settled: the user's hook for the attempt's end, if there is one.
    """

    def __init__(
        self,
        context: RunContext,
        agent: AgentRef,
        on_settled: Callable[[TurnReport], Awaitable[None]] | None,
    ) -> None:
        self._context = context
        self._on_settled = on_settled
        self._drain = Drain(context, agent)
        self._scope = anyio.CancelScope(shield=True)
        self._is_over = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._report: TurnReport | None = None

    @property
    def held_count(self) -> int:
        """How many turns are held now."""
        return len(self._drain.attempts)

    def drain(self, *, force: bool = False) -> None:
        """End in order.

        Args:
            force: without a grace period.
        """
        if self._drain.begin() and self._tasks is not None:
            self._tasks.start_soon(self._drain.finish)
        if force:
            self._drain.force()

    async def run(self, found: FetchedClaim) -> TurnReport:
        """Work the claim. A drain ends it in order, and so does a cancellation."""
        async with anyio.create_task_group() as self._tasks:
            renewals, handlers = RenewalScheduler(self._tasks), HandlerTasks(self._tasks, shares=False)
            attempt = Attempt(self._context, found, renewals, handlers)
            self._drain.hold(attempt)
            self._tasks.start_soon(self._work, attempt)
            try:
                await self._is_over.wait()
            except BaseException:
                self.drain(force=True)
                with anyio.CancelScope(shield=True):
                    await self._drain.finish()
                self._scope.cancel()
                raise
            self._tasks.cancel_scope.cancel()
        assert self._report is not None  # it is over
        if self._on_settled is not None:
            await call_hook(self._on_settled, self._report)
        return self._report

    async def _work(self, attempt: Attempt) -> None:
        """Work in a task and scope of its own, so that no outer cancellation looks like the handler's."""
        with self._scope:
            try:
                self._report = await attempt.run()
                await attempt.clean_up()
                await self._context.outbox.flush()
            finally:
                self._drain.attempts.discard(attempt)
                self._is_over.set()
