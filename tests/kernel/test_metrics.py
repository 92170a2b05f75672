"""The series by agent at `/metrics`: what they count, how many there are, and what a scrape costs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from attrs import evolve
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.metrics import Metrics
from cgworker.kernel.request_metrics import BUCKET_SECONDS, RequestMetrics
from cgworker.kernel.store.backlog import AgentBacklog, Backlog, count_open_turns
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.project import Agent, Project, client_of

REQUESTS = [
    ("GET", "/a", 200, 0.0004),
    ("GET", "/a", 200, 0.001),
    ("GET", "/a", 404, 3.7),
    ("PUT", "/b", 0, 99.0),
]
Turns = dict[tuple[str, str], int]


async def _turns(client: httpx.AsyncClient) -> dict[str, Turns]:
    """By project, and by agent and state, what `cg_agent_turns` counts."""
    found: dict[str, Turns] = {}
    text = (await client.get("/metrics")).raise_for_status().text
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name == "cg_agent_turns" else ():
            labels = sample.labels
            found.setdefault(labels["project"], {})[labels["agent"], labels["state"]] = int(sample.value)
    return found


async def _dispatch(requester: Agent, worker: Agent, count: int, **more: Any) -> None:
    items = [requester.dispatching(worker, **more) for _ in range(count)]
    await requester.post("turns:dispatch-many", {"items": items})


async def test_turns_that_are_ready_or_running_are_counted_by_agent(project: Project) -> None:
    """What a worker could do now, and what one does: an agent that has neither is not named."""
    requester, desk, shop = [await project.agent(name) for name in ("requester", "desk", "shop")]
    await _dispatch(requester, desk, 3)
    await _dispatch(requester, shop, 1)
    await desk.claim()
    assert (await _turns(project.client))[project.id] == {
        ("desk", "ready"): 2,
        ("desk", "running"): 1,
        ("shop", "ready"): 1,
        ("shop", "running"): 0,
    }
    claim = await shop.claim()
    assert (await shop.finish(claim)).status_code == 200
    assert ("shop", "ready") not in (await _turns(project.client))[project.id]


async def test_a_turn_for_later_waits_from_when_it_is_due(project: Project) -> None:
    """The age of the oldest queued turn is to tell of too few workers."""
    worker, database = await project.agent("worker"), project.kernel.database
    await worker.dispatch(worker, delay_seconds=3600)
    dispatched = "update cg_turns set created_at = now() - interval '1 hour' where project_id = $1"
    await database.execute(dispatched, project.id)
    assert await _oldest(project) == (1, 0)
    due = "update cg_turns set not_before = now() - interval '9 s', due_at = null where project_id = $1"
    await database.execute(due, project.id)
    count, seconds = await _oldest(project)
    assert count == 1
    assert 9 <= seconds < 1800


async def _oldest(project: Project) -> tuple[int, float]:
    """How many turns are open, and how long the oldest waits."""
    backlog = await count_open_turns(project.kernel.database, max_projects=1000)
    [found] = [each for each in backlog if each.project_id == project.id]
    return found.turn_count, found.oldest_seconds


async def test_a_turn_that_no_worker_could_claim_asks_for_no_worker(project: Project) -> None:
    """One that waits for an instant, and one behind another of its key, are not ready."""
    requester, desk, shop = [await project.agent(name) for name in ("requester", "desk", "shop")]
    await _dispatch(requester, desk, 2, delay_seconds=3600)
    await _dispatch(requester, shop, 3, serial_key="conversation-1")
    assert (await _turns(project.client))[project.id] == {("shop", "ready"): 1, ("shop", "running"): 0}


async def test_the_agents_beyond_the_limit_are_one_sum(dsn: str, config: KernelConfig) -> None:
    """Those with the most turns are named; nothing is lost from the total."""
    config = evolve(config, metrics_agents=2)
    async with (
        Database.open(dsn) as database,
        open_kernel(config, database) as kernel,
        client_of(kernel) as client,
    ):
        project = Project(kernel, client)
        requester = await project.agent("requester")
        before = sum(sum(turns.values()) for turns in (await _turns(client)).values())
        for number in range(5):
            worker = await project.agent(f"worker-{number}")
            await _dispatch(requester, worker, 100 + number)
        found = await _turns(client)
    named = {agent for turns in found.values() for agent, _ in turns if agent}
    assert named == {"worker-3", "worker-4"}
    assert found[""]["", "ready"] >= 100 + 101 + 102
    assert sum(sum(turns.values()) for turns in found.values()) == before + 510


async def test_scrapes_at_once_look_into_the_database_once(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape needs no credential, so many of them must not take the connections of the others."""
    looks, has_looked, may_answer = [], asyncio.Event(), asyncio.Event()

    async def count_open_turns(_: Database, *, max_projects: int) -> list[Backlog]:
        looks.append(max_projects)
        has_looked.set()
        await may_answer.wait()
        return []

    monkeypatch.setattr("cgworker.kernel.metrics.count_open_turns", count_open_turns)
    async with client_of(kernel) as client:
        scrapes = [asyncio.create_task(client.get("/metrics")) for _ in range(40)]
        await has_looked.wait()
        may_answer.set()
        answers = await asyncio.gather(*scrapes)
    assert {answer.status_code for answer in answers} == {200}
    # The first look, and one for those that came after it had begun.
    assert len(looks) <= 2


async def test_a_name_with_a_quote_is_one_label(project: Project) -> None:
    """An agent's id may contain what the text format escapes."""
    requester, odd = await project.agent("requester"), await project.agent('a"b\\n}')
    await _dispatch(requester, odd, 1)
    assert (await _turns(project.client))[project.id]['a"b\\n}', "ready"] == 1


async def test_a_scrape_of_all_series_is_bounded(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the most projects and agents there are as many series as the limits say."""

    async def many(*_: Any, **limits: int) -> list[Any]:
        states = ("queued", "running", "suspended")
        if "max_agents" in limits:
            named = [("p", f"a{number}") for number in range(limits["max_agents"])]
            return [
                AgentBacklog(project_id=project, agent_id=agent, ready_count=1, running_count=1)
                for project, agent in [*named, ("", "")]
            ]
        return [
            Backlog(project_id=f"p{number}", state=state, turn_count=1, oldest_seconds=1, held_count=1)
            for number in range(limits["max_projects"])
            for state in states
        ]

    for name in ("count_open_turns", "count_turns_of_agents"):
        monkeypatch.setattr(f"cgworker.kernel.metrics.{name}", many)
    text = (await Metrics(200).text(kernel.database, kernel.notifier)).decode()
    assert len(re.findall("^cg_agent_turns{", text, re.MULTILINE)) == 2 * 201
    assert len(re.findall("^cg_open_turns{", text, re.MULTILINE)) == 3 * 200


def test_requests_are_told_as_the_librarys_own_counters_would() -> None:
    """They are counted in dicts, and become series when they are asked for."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counted = RequestMetrics()
    ours.register(counted)
    labels = ("method", "path")
    requests = Counter("cg_requests", "Requests answered", (*labels, "status"), registry=theirs)
    about = "Time to the last byte of an answer, waiting included"
    times = Histogram("cg_request_seconds", about, labels, registry=theirs, buckets=BUCKET_SECONDS)
    for method, path, status, seconds in REQUESTS:
        counted.count(method, path, status, seconds)
        requests.labels(method, path, status).inc()
        times.labels(method, path).observe(seconds)
    assert _without_instants(ours) == _without_instants(theirs)


def _without_instants(registry: CollectorRegistry) -> str:
    """The text of all series, but for the instants since which they are counted."""
    return re.sub(r"1\.\d+e\+09", "<instant>", generate_latest(registry).decode())
