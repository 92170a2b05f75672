"""The kernel as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from attrs import field, frozen

from cgworker.kernel.application import Application
from cgworker.kernel.batching import BatchedOperations
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.http.request import Bodies
from cgworker.kernel.long_poll.feed_rounds import FeedRounds
from cgworker.kernel.long_poll.notifier import Notifier
from cgworker.kernel.maintenance import Maintenance
from cgworker.kernel.metrics import Metrics
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes import (
    agents,
    claims,
    credentials,
    description,
    health,
    projections,
    reports,
    schedules,
    turns,
)
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.hosts import Hosts
from cgworker.kernel.store.projections import read_feed
from cgworker.kernel.timers import Timers

SERVER_ROUTES: Sequence[Operation] = [*health.routes, *description.routes]
# Routes are matched in this order, so the frequent ones come first.
ROUTES: Sequence[Operation] = [
    *claims.routes,
    *turns.routes,
    *agents.routes,
    *credentials.routes,
    *schedules.routes,
    *reports.routes,
    *projections.routes,
    *SERVER_ROUTES,
    *health.metrics_routes,
]


@frozen
class Kernel:
    """The state that the routes of one kernel process share; no other process needs it."""

    config: KernelConfig
    database: Database
    notifier: Notifier
    operations: BatchedOperations
    timers: Timers
    maintenance: Maintenance
    metrics: Metrics
    feed_rounds: FeedRounds
    bodies: Bodies = field(factory=Bodies)

    async def do_what_is_due(self) -> None:
        """Do at once what is due by the kernel's clock, and let all waiting requests read again.

        Call it after moving the clock; otherwise the kernel's timer does this.
        """
        if self.config.claim_reaper_interval_seconds:
            await self.maintenance.reap()
        await self.timers.do_what_is_due()
        self.notifier.wake_all()


@asynccontextmanager
async def open_kernel(config: KernelConfig, database: Database) -> AsyncIterator[Kernel]:
    """Open a kernel on a migrated database; its notifier, timer and maintenance run until the block ends."""
    own_hosts = Hosts(config.pg_listen_dsn) if config.pg_listen_dsn else None
    notifier = Notifier(own_hosts or database.listen_hosts)
    metrics = Metrics(config.metrics_agents)
    operations = BatchedOperations(database, config.lease)
    kernel = Kernel(
        config,
        database,
        notifier,
        operations,
        Timers(database, notifier, metrics, config.lease, operations.parked),
        Maintenance(config, database, notifier, metrics),
        metrics,
        FeedRounds(notifier, partial(read_feed, database)),
    )
    notifier.start()
    tasks = [asyncio.create_task(kernel.maintenance.run()), asyncio.create_task(kernel.timers.run())]
    try:
        async with own_hosts.followed() if own_hosts else nullcontext():
            yield kernel
    finally:
        notifier.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kernel.feed_rounds.stop()
        await notifier.stop()


def create_app(
    kernel: Kernel,
    more_routes: Sequence[Operation] = (),
    *,
    has_kernel_routes: bool = True,
    hosts: Collection[str] | None = None,
) -> Application:
    """Create the ASGI application of a kernel.

    Args:
        kernel: an open kernel.
        more_routes: routes besides the kernel's own, such as the admission service's.
        has_kernel_routes: False omits the kernel's own routes, except health and description.
        hosts: the host names to answer to besides loopback names; None answers to every name.
    """
    own = ROUTES if has_kernel_routes else SERVER_ROUTES
    hidden = [] if kernel.config.metrics else health.metrics_routes
    return Application(kernel, [*(route for route in own if route not in hidden), *more_routes], hosts)
