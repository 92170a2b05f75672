"""Prometheus metrics of a kernel: its requests, and the work that waits (difference 10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from attrs import define
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from cgworker.errors import CommonGroundError
from cgworker.kernel.long_poll.notifier import Notifier
from cgworker.kernel.request_metrics import RequestMetrics
from cgworker.kernel.store.backlog import (
    AgentBacklog,
    Backlog,
    count_open_turns,
    count_turns_of_agents,
)
from cgworker.kernel.store.due import count_due
from cgworker.kernel.store.postgres.database import Database

_DATABASE_SECONDS = 5.0  # Prometheus gives up after ten, and would then have no metrics at all
_MAX_PROJECTS = 200  # those with the most open turns; thousands of labels would drown the rest


@define
class _Readings:
    """The results of reading the database; None for those that it did not give."""

    backlogs: list[Backlog] | None = None
    due: Mapping[str, int] | None = None
    agents: list[AgentBacklog] | None = None


class Metrics:
    """The metrics of one kernel process: counters, and gauges that are read at each scrape.

    Args:
        max_agents: how many agents have series of their own; the turns of all others are one sum.
    """

    def __init__(self, max_agents: int = 200) -> None:
        self._max_agents = max_agents
        self._making = asyncio.Lock()
        self._made_at = 0.0
        self._text = b""
        self._registry = CollectorRegistry()
        self.requests: RequestMetrics = RequestMetrics()
        self._registry.register(self.requests)
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
        self._database_up = self._gauge("database_up", "Whether PostgreSQL answered this time, in 5 s")
        self._turns = self._gauge("open_turns", "Turns that are not closed", ("project", "state"))
        self._ages = self._gauge(
            "oldest_open_turn_seconds",
            "Time since the oldest of them was dispatched, or became due",
            ("project", "state"),
        )
        self._leases = self._gauge("leases", "Running turns whose lease has not ended", ("project",))
        self._agent_turns = self._gauge(
            "agent_turns",
            "Turns of an agent that are `ready` to be claimed, or `running`; of those with the most. Without"
            " names: of all others",
            ("project", "agent", "state"),
        )

    def _counter(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"cg_{name}", description, labels, registry=self._registry)

    def _gauge(self, name: str, description: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"cg_{name}", description, labels, registry=self._registry)

    async def text(self, database: Database, notifier: Notifier) -> bytes:
        """Return all metrics in the text format; without the backlog if the database is unavailable.

        Scrapes that wait at the same time share one read of the database and one text, since scraping needs
        no credential.
        """
        arrived_at = time.monotonic()
        async with self._making:
            if self._made_at <= arrived_at:
                self._made_at = time.monotonic()
                self._set(await _read(database, self._max_agents), database, notifier)
                # Thousands of series take 40 ms. A thread lets other requests in between.
                self._text = await asyncio.to_thread(generate_latest, self._registry)
            return self._text

    def _set(self, readings: _Readings, database: Database, notifier: Notifier) -> None:
        self._database_up.set(readings.agents is not None)  # it is read last
        self._set_backlogs(readings.backlogs or ())
        self._set_agents(readings.agents or ())
        for when, count in (readings.due or {}).items():
            self._due.labels(when).set(count)
        self._waits.set(notifier.waiting_count)
        self._connections.labels("used").set(database.used_count)
        self._connections.labels("idle").set(database.open_count - database.used_count)

    def _set_backlogs(self, backlogs: Iterable[Backlog]) -> None:
        for gauge in (self._turns, self._ages, self._leases):
            gauge.clear()
        for backlog in backlogs:
            labels = backlog.project_id, backlog.state
            self._turns.labels(*labels).set(backlog.turn_count)
            self._ages.labels(*labels).set(backlog.oldest_seconds)
            if backlog.held_count:
                self._leases.labels(backlog.project_id).set(backlog.held_count)

    def _set_agents(self, agents: Iterable[AgentBacklog]) -> None:
        self._agent_turns.clear()
        for agent in agents:
            self._agent_turns.labels(agent.project_id, agent.agent_id, "ready").set(agent.ready_count)
            self._agent_turns.labels(agent.project_id, agent.agent_id, "running").set(agent.running_count)


async def _read(database: Database, max_agents: int) -> _Readings:
    readings = _Readings()
    with suppress(CommonGroundError, TimeoutError):
        async with asyncio.timeout(_DATABASE_SECONDS):
            readings.backlogs = await count_open_turns(database, max_projects=_MAX_PROJECTS)
            readings.due = await count_due(database)
            readings.agents = await count_turns_of_agents(database, max_agents=max_agents)
    return readings
