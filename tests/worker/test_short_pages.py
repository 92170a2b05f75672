"""A page that the kernel cut is not the last one, however short it is (difference 11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cgworker.client import KernelClient
from cgworker.outcome import AWAIT_CHILDREN_REASON
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker.resuming.child_waits import WaitingParent
from cgworker.worker.resuming.suspended import SuspendedTurns

PARENT, CHILD = TurnRef(project_id="p", turn_id="T-1"), "T-2"
AGENT = AgentRef(project_id="p", agent_id="desk")


def event(ledger_seq: int, event_type: str, turn_id: str, **annotations: Any) -> dict[str, Any]:
    return {
        "ledger_seq": ledger_seq,
        "project_id": "p",
        "event_type": event_type,
        "subject_kind": "turn",
        "subject_id": turn_id,
        "actor_kind": "agent",
        "actor_id": "desk",
        "annotations": annotations,
        "created_at": "2026-01-01T00:00:00Z",
    }


EVENTS = [
    event(1, "turn.spawned", CHILD),
    event(2, "turn.suspended", PARENT.turn_id, caller={"reason": AWAIT_CHILDREN_REASON}),
    event(3, "turn.finished", CHILD),
    event(4, "turn.suspended", "T-9"),
    event(5, "turn.suspended", "T-10", caller={"reason": "await_time"}, resume_after_seconds=60),
]


def suspended(turn_id: str) -> dict[str, Any]:
    return {
        "turn": {"project_id": "p", "turn_id": turn_id},
        "target_agent": {"project_id": "p", "agent_id": "desk"},
        "cause": {"kind": "root_request", "id": "r"},
        "state": "suspended",
        "stop_requested": False,
        "spawn_key": "k",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }


def answer(request: httpx.Request) -> httpx.Response:
    """As a kernel whose pages have room for one event."""
    if request.url.path.endswith("/projection/turns"):
        return httpx.Response(200, json={"project_id": "p", "items": [], "limit": 0})
    if not request.url.path.endswith("/feed"):
        return httpx.Response(200, json=suspended(request.url.path.rsplit("/")[-1]))
    after = int(request.url.params["after_ledger_seq"])
    found = [one for one in EVENTS if one["ledger_seq"] > after]
    page = {"items": found[:1], "next_after_ledger_seq": after + len(found[:1])}
    link = {"link": f'<{request.url.path}?after_ledger_seq={after + 1}>; rel="next"'} if found[1:] else {}
    return httpx.Response(200, json=page, headers=link)


@pytest.fixture
async def kernel() -> AsyncIterator[KernelClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        yield KernelClient("http://kernel", http=http)


async def test_a_parent_reads_its_feed_on_behind_a_page_that_was_cut(kernel: KernelClient) -> None:
    """Or it waits for the end of a child that it could have read of."""
    parent = WaitingParent(PARENT)
    assert await parent.read_feed(kernel, 0)
    assert parent.read_until == EVENTS[-1]["ledger_seq"]
    assert parent.is_waiting
    assert parent.is_ready


async def test_old_suspended_turns_are_found_behind_a_page_that_was_cut(
    kernel: KernelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's feed is read to its end; those that the kernel wakes are left to it."""
    monkeypatch.setattr("cgworker.worker.resuming.suspended._MAX_TURNS", 0)
    assert set(await SuspendedTurns(kernel, AGENT).find()) == {PARENT, TurnRef(project_id="p", turn_id="T-9")}
