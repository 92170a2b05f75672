"""Dispatching many turns in one request (difference 35)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.project import Agent, Project, token_of


async def dispatch_many(agent: Agent, *items: Any) -> list[Any]:
    """The answers to the items, by index."""
    answers = await agent.post("turns:dispatch-many", {"items": list(items)})
    return list(answers["items"])


async def test_each_item_is_answered_as_by_the_single_route(project: Project) -> None:
    """New turns, a repeat, and each kind of refusal; the refused ones leave nothing behind."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    items = [
        requester.dispatching(worker, "new", priority=3),
        requester.dispatching(worker, "first", input=1),
        requester.dispatching(worker, "first", input=1),
        requester.dispatching(worker, "first", input=2),
        requester.dispatching(worker, "unknown field", surprise=1),
        requester.dispatching(worker, "priority", priority=1000),
        requester.dispatching(worker, "other", turn_kind="turn.unknown.v1"),
        {**requester.dispatching(worker, "foreign"), "requested_by": worker.json},
        {**requester.dispatching(worker, "target"), "target_agent": {"project_id": "p", "agent_id": "a"}},
        requester.dispatching(worker, "delayed", delay_seconds=60, not_before="2126-01-01T00:00:00Z"),
        "no object",
    ]
    answers = await dispatch_many(requester, *items)
    for item, answer in zip(items, answers, strict=True):
        single = await requester.ask("POST", "turns:dispatch", item)
        assert answer == {"status": single.status_code, "body": single.json()}
    statuses = [answer["status"] for answer in answers]
    assert statuses == [200, 200, 200, 409, 422, 422, 409, 403, 409, 422, 422]
    turns = (await requester.get("projection/turns"))["items"]
    assert [turn["turn_id"] for turn in turns] == ["T-2", "T-1"]


async def test_the_turns_are_numbered_in_the_order_of_the_items(project: Project) -> None:
    """And are claimed in that order."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=200)
    items = [requester.dispatching(worker, f"k-{place}", input=place) for place in range(200)]
    answers = await dispatch_many(requester, *items)
    numbers = [int(answer["body"]["turn_id"].removeprefix("T-")) for answer in answers]
    assert numbers == list(range(1, 201))


async def test_children_are_dispatched_under_their_parents_claim(project: Project) -> None:
    """Each item has an authority of its own; the parent's feed tells of all children."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=9)
    await requester.dispatch(worker)
    authority = {"mode": "child_derivation", "parent_claim": token_of(await worker.claim())}
    items = [worker.dispatching(requester, f"c-{place}", authority=authority) for place in range(3)]
    assert [answer["status"] for answer in await dispatch_many(worker, *items)] == [200] * 3
    lineage = await worker.get("projection/turns/T-1/lineage")
    assert [child["turn_id"] for child in lineage["direct_children"]] == ["T-2", "T-3", "T-4"]


@pytest.mark.parametrize("count", [0, 201])
async def test_a_request_has_one_to_200_items(project: Project, count: int) -> None:
    """Others are refused as a whole, before any item is looked at."""
    requester = await project.agent("requester")
    refused = await requester.ask("POST", "turns:dispatch-many", {"items": [1] * count})
    assert refused.status_code == 422
    assert [fault["loc"] for fault in refused.json()["detail"]] == [["body", "items"]]


async def test_a_caller_without_a_credential_is_refused_as_a_whole(project: Project) -> None:
    """All items are under the identity of the headers."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    body = {"items": [requester.dispatching(worker)]}
    refused = await requester.ask("POST", "turns:dispatch-many", body, {"Authorization": "Bearer no"})
    assert refused.status_code == 401
