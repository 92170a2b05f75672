"""Prometheus metrics of a kernel: its requests, and the work that waits (difference 10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.errors import CommonGroundError
from cgworker.kernel.long_poll.notifier import Notifier
from cgworker.kernel.store.backlog import Backlog, count_open_turns
from cgworker.kernel.store.due import count_due
from cgworker.kernel.store.postgres.database import Database

_BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_DATABASE_SECONDS = 3.0  # Prometheus gives up after ten, and would then have no metrics at all
_MAX_PROJECTS = 200  # those with the most open turns; thousands of labels would drown the rest


class Metrics:
    """The metrics of one kernel process: counters, and gauges that are read at each scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("method", "path", "status")
        self.requests: Counter = self._counter("requests", "Requests answered", names)
        self.seconds: Histogram = Histogram(
            "cg_request_seconds",
            "Time to the last byte of an answer, waiting included",
            ("method", "path"),
            registry=self._registry,
            buckets=_BUCKET_SECONDS,
        )
        self.claims: Counter = self._counter("claims", "Claims given")
        self.reaped: Counter = self._counter(
            "reaped_turns", "Turns whose lease had ended, queued again by the kernel"
        )
        self.removed: Counter = self._counter(
            "removed_turns", "Turns removed since they were older than CG_RETENTION_DAYS"
        )
        self.schedule_ticks: Counter = self._counter(
            "schedule_ticks", "Instants of schedules, by what became of them", ("result",)
        )
        self._due = self._gauge("due_turns", "Turns that wait for an instant", ("when",))
        self._waits = self._gauge("waiting_requests", "Requests that wait for a change")
        self._connections = self._gauge("database_connections", "Connections to PostgreSQL", ("state",))
        self._database_up = self._gauge("database_up", "Whether PostgreSQL answered this time")
        self._turns = self._gauge("open_turns", "Turns that are not closed", ("project", "state"))
        self._ages = self._gauge(
            "oldest_open_turn_seconds", "Time since the oldest of them was dispatched", ("project", "state")
        )
        self._leases = self._gauge("leases", "Running turns whose lease has not ended", ("project",))

    def _counter(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"cg_{name}", description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"cg_{name}", description, labels, registry=self._registry)

    async def text(self, database: Database, notifier: Notifier) -> bytes:
        """Return all metrics in the text format; without the backlog if the database is unavailable."""
        backlogs, due = await _backlogs_of(database), await _due_of(database)
        # No await from here on, so that two concurrent scrapes do not mix.
        self._database_up.set(backlogs is not None)
        self._set_backlogs(backlogs or ())
        for when, count in (due or {}).items():
            self._due.labels(when).set(count)
        self._waits.set(notifier.waiting_count)
        self._connections.labels("used").set(database.used_count)
        self._connections.labels("idle").set(database.open_count - database.used_count)
        return generate_latest(self._registry)

    def _set_backlogs(self, backlogs: Iterable[Backlog]) -> None:
        for gauge in (self._turns, self._ages, self._leases):
            gauge.clear()
        for backlog in backlogs:
            labels = backlog.project_id, backlog.state
            self._turns.labels(*labels).set(backlog.turn_count)
            self._ages.labels(*labels).set(backlog.oldest_seconds)
            if backlog.held_count:
                self._leases.labels(backlog.project_id).set(backlog.held_count)


async def _backlogs_of(database: Database) -> list[Backlog] | None:
    """Return the open turns; None if the database does not answer."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await count_open_turns(database, max_projects=_MAX_PROJECTS)
    except (CommonGroundError, TimeoutError):
        return None


async def _due_of(database: Database) -> dict[str, int] | None:
    """Return how many turns wait for an instant that is to come, or has come; None without the database."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await count_due(database)
    except (CommonGroundError, TimeoutError):
        return None


class CountRequests:
    """ASGI middleware that counts and times every request by its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, then count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, statuses = time.perf_counter(), []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            operation = scope.get("operation")
            path = (
                operation.path if operation else "(none)"
            )  # paths of unknown routes would be unlimited labels
            self._metrics.requests.labels(scope["method"], path, statuses[0] if statuses else 0).inc()
            self._metrics.seconds.labels(scope["method"], path).observe(time.perf_counter() - begun)
