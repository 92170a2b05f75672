"""Pages of records and events: cut where they are too long, with a link to what follows (difference 11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve

from cgworker.kernel.app import Kernel
from tests.kernel.project import Agent, Project, client_of


@pytest.fixture
async def worker(kernel: Kernel) -> AsyncIterator[Agent]:
    """An agent with a turn of 6 records and 8 events, at a kernel whose pages have 4 items at most."""
    short = evolve(kernel, config=evolve(kernel.config, max_page_items=4))
    async with client_of(short) as client:
        worker = await Project(short, client).agent("worker")
        await worker.dispatch(worker)
        claim = await worker.claim()
        for n in range(5):
            await worker.append(claim, n)
        yield worker


async def pages_of(agent: Agent, path: str, **query: Any) -> list[dict[str, Any]]:
    """All pages, by following the links."""
    response = await agent.ask("GET", path, **query)
    pages = [response.json()]
    while "next" in response.links:
        url = response.links["next"]["url"]
        response = await agent.project.client.get(url, headers=agent.headers)
        pages.append(response.json())
    return pages


async def test_a_long_context_is_cut(worker: Agent) -> None:
    """The link leads on after the last record, with the limit that was asked for."""
    pages = await pages_of(worker, "turns/T-1/context", limit=100)
    sequences = [[item["record"]["turn_seq"] for item in page["semantic_items"]] for page in pages]
    assert sequences == [[1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize("path", ["turns/T-1/feed", "agents/worker/feed"])
async def test_a_long_feed_is_cut(worker: Agent, path: str) -> None:
    """Every event is on one page, in order."""
    pages = await pages_of(worker, path, limit=100)
    events = [event["event_type"] for page in pages for event in page["items"]]
    assert len(pages[0]["items"]) == 4
    assert events[-6:] == ["turn.claimed"] + ["turn.progress_appended"] * 5


async def test_a_page_as_long_as_asked_for_has_no_link(worker: Agent) -> None:
    """Who asks for a page goes on by itself, as with the reference."""
    response = await worker.ask("GET", "turns/T-1/context", limit=4)
    assert (len(response.json()["semantic_items"]), response.links) == (4, {})


async def test_a_negative_limit_of_a_feed_is_refused(worker: Agent) -> None:
    """It answered 500 at the reference (difference 1)."""
    for path in ("turns/T-1/feed", "agents/worker/feed", "projection/feed"):
        response = await worker.ask("GET", path, limit=-1)
        assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["query", "limit"])


@pytest.mark.parametrize("limit", [0, 501, "many", ""])
async def test_a_projection_has_bounds(worker: Agent, limit: object) -> None:
    """From 1 to 500 items."""
    for name in ("agents", "turn-offers", "turns", "turns/T-1/lineage", "feed"):
        assert (await worker.ask("GET", f"projection/{name}", limit=limit)).status_code == 422


async def test_all_faults_of_a_query_are_told_at_once(worker: Agent) -> None:
    """As with a body."""
    response = await worker.ask("GET", "projection/agents", limit=0, enabled_only="perhaps", role="a\0b")
    places = [fault["loc"][1] for fault in response.json()["detail"]]
    assert sorted(places) == ["enabled_only", "limit", "role"]


OLD_IDS = ["Grüße-世界", "a?b#c%25&d", "<a>; b", "a\u202eb", "\U0001f600"]


@pytest.mark.parametrize("agent_id", OLD_IDS)
async def test_a_cut_page_of_an_agent_with_any_id_leads_on(worker: Agent, agent_id: str) -> None:
    """The link is ASCII, whatever was admitted before ids had to be (difference 38)."""
    project = worker.project
    old = await project.agent("old")
    for _ in range(3):
        await worker.dispatch(old)
    for table, column in [("agents", "agent_id"), ("turns", "target_agent_id"), ("ledger", "agent_id")]:
        rename = f"update cg_{table} set {column} = $2 where project_id = $1 and {column} = 'old'"
        await project.kernel.database.execute(rename, project.id, agent_id)
    path = f"agents/{quote(agent_id, safe='')}"
    pages = await pages_of(worker, f"{path}/feed", limit=100, odd="é&x=\u2028")
    assert [len(page["items"]) for page in pages] == [4, 3]
    assert (await worker.get(path))["agent"]["agent_id"] == agent_id
    listed = (await worker.get("projection/agents"))["items"]
    assert agent_id in [agent["agent_id"] for agent in listed]


LARGE = "x" * 6_000_000


@pytest.fixture
async def large(project: Project) -> Agent:
    """An agent with a queued turn of an input and five records of 6 MB each."""
    agent = await project.agent("large")
    await agent.dispatch(agent)
    claim = await agent.claim()
    for _ in range(5):
        assert (await agent.append(claim, LARGE)).status_code == 200
    await agent.suspend(claim)
    await agent.resume(claim["turn_id"])
    return agent


async def test_a_context_is_cut_by_its_size(large: Agent) -> None:
    """A page holds 16 MiB at most, and its link leads to the rest, whatever limit was asked for."""
    for limit in (100, 6):
        pages = await pages_of(large, "turns/T-1/context", limit=limit)
        sequences = [[item["record"]["turn_seq"] for item in page["semantic_items"]] for page in pages]
        assert sequences == [[1, 2, 3], [4, 5], [6]]


async def test_a_claim_leaves_out_a_context_that_is_no_page(large: Agent) -> None:
    """It is asked for page by page then, as where no kernel brings it along."""
    claim = await large.claim({"Prefer": "return=representation"})
    assert "context" not in claim
    assert claim["attempt"] == 1


async def test_a_feed_is_cut_by_its_size(project: Project) -> None:
    """The annotations of its events count; no event is lost."""
    agent = await project.agent("worker")
    await agent.dispatch(agent)
    claim = await agent.claim()
    for n in range(4):
        meta = {"annotations": {"n": n, "text": LARGE}}
        assert (await agent.append(claim, n, meta=meta)).status_code == 200
    for path in ("turns/T-1/feed", "agents/worker/feed"):
        pages = await pages_of(agent, path, limit=100)
        events = [event["event_type"] for page in pages for event in page["items"]]
        assert len(pages) == 2
        assert events[-4:] == ["turn.progress_appended"] * 4
    first = await agent.get("projection/feed", limit=100)
    rest = await agent.get("projection/feed", limit=100, after_ledger_seq=first["next_after_ledger_seq"])
    numbers = [event["ledger_seq"] for event in (*first["items"], *rest["items"])]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(first["items"]) < len(numbers)
