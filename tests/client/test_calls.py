"""Each call asks the right thing of the right route, as the agent it speaks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from attrs import field, frozen

from cgworker import AdmissionClient, AgentRef, KernelClient, TurnRef
from cgworker.wire.admission import CreateInvite, RequestCredentialToken
from cgworker.wire.agents import AgentSpec, Provenance, UpdateAgent
from cgworker.wire.claims import ClaimItem, RenewItem
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.meta import Meta
from cgworker.wire.refs import ClaimToken
from cgworker.wire.reports import Report, ReportRecord
from cgworker.wire.schedules import PutSchedule
from cgworker.wire.turns import ChildDerivation, Dispatch, Finish, RootRequest, SettleItem
from tests.client.peer import AGENT, Peer

V = "/v3r1/projects/p"
NOW = datetime(2026, 11, 22, 17, tzinfo=UTC)
OTHER = AgentRef(project_id="p", agent_id="b")
TURN = TurnRef(project_id="p", turn_id="T-1")
CLAIM = ClaimToken(project_id="p", turn_id="T-1", agent_id="a", token="secret", expires_at=NOW)

agent = {"project_id": "p", "agent_id": "a"}
other = {"project_id": "p", "agent_id": "b"}
turn = {"project_id": "p", "turn_id": "T-1"}
claim = {**turn, **agent, "token": "secret", "expires_at": "2026-11-22T17:00:00+00:00"}
none = {"meta": None, "trace": None}
snapshot = {
    "turn": turn,
    "target_agent": agent,
    "turn_kind": "k",
    "cause": {"kind": "external_request", "id": "r"},
    "state": "queued",
    "stop_requested": False,
    "spawn_key": "k",
    "created_at": claim["expires_at"],
    "updated_at": claim["expires_at"],
}
agent_snapshot = {
    "agent": agent,
    "enabled": True,
    "accepts_work": True,
    "capacity": 1,
    "capabilities": [],
    "grants": [],
    "public_metadata": {},
    "created_at": claim["expires_at"],
    "updated_at": claim["expires_at"],
}
credential = {
    "credential_id": "cred_1",
    **agent,
    "status": "active",
    "created_at": claim["expires_at"],
    "updated_at": claim["expires_at"],
}
invite = {
    "invite_id": "aginv_1",
    **agent,
    "profile_kind": "k",
    "runtime_kind": "r",
    "display_name": "A",
    "issued_by_user_id": "u",
    "expires_at": claim["expires_at"],
    "single_use": True,
    "max_uses": 1,
    "use_count": 0,
    "disabled": False,
    "created_at": claim["expires_at"],
    "updated_at": claim["expires_at"],
}
admitted = {
    "request_id": "r",
    **agent,
    "status": "registered",
    "profile": {
        **agent,
        "runtime_kind": "r",
        "profile_kind": "k",
        "profile_ref": "ref",
        "credential_id": "cred_1",
        "status": "credential_ready",
    },
    "credential": {"credential_id": "cred_1", "status": "active"},
    "agent_credential_token": "cgac_1",
}
page = {"project_id": "p", "items": [], "limit": 100, "diagnostics": []}
entry = {
    "turn_id": "T-1",
    "project_turn_seq": 1,
    "target_agent_id": "a",
    "turn_kind": "k",
    "state": "queued",
    "stop_requested": False,
    "cause_kind": "external_request",
    "cause_id": "r",
    "created_at": claim["expires_at"],
    "updated_at": claim["expires_at"],
}
events = {"items": [], "next_after_ledger_seq": 7}


@frozen
class Call:
    """A call, the request it must make, and an answer it can read."""

    of: Callable[[KernelClient], Awaitable[Any]]
    request: str
    body: Any = None
    answer: Any = None
    query: Mapping[str, str] = field(factory=dict)


SCHEDULE = PutSchedule(requested_by=AGENT, target_agent=OTHER, cron="@every 1h", input=1)
planned = {
    "cron": "@every 1h",
    "timezone": "UTC",
    "target_agent": other,
    "turn_kind": "turn.conversation.v1",
    "input": 1,
    "overlap": "queue",
    "catch_up": "last",
    "jitter_seconds": 0.0,
}
schedule = {
    **planned,
    "schedule_id": "s",
    "requested_by": agent,
    "paused": False,
    "created_at": NOW.isoformat(),
    "updated_at": NOW.isoformat(),
}


def dispatch_of(authority: RootRequest | ChildDerivation) -> Dispatch:
    return Dispatch(requested_by=AGENT, target_agent=OTHER, input=None, dispatch_key="d", authority=authority)


CALLS = {
    "agents.get": Call(lambda k: k.agents.get(AGENT), f"GET {V}/agents/a", answer=agent_snapshot),
    "agents.register": Call(
        lambda k: k.agents.register(
            "p", AgentSpec(agent_id="a", role="r", capacity=3), Provenance(kind="k", external_ref="e")
        ),
        f"POST {V}/agents:register",
        {
            "spec": {
                "agent_id": "a",
                "role": "r",
                "description": None,
                "enabled": True,
                "accepts_work": True,
                "capacity": 3,
                "capabilities": [],
                "grants": [],
                "public_metadata": {},
            },
            "provenance": {"kind": "k", "external_ref": "e", "payload_hash": None},
        },
        agent_snapshot,
    ),
    "agents.update": Call(
        lambda k: k.agents.update(UpdateAgent(agent=OTHER, requested_by=AGENT, capacity=4)),
        f"POST {V}/management/agents/b:update",
        {"agent": other, "requested_by": agent, "capacity": 4, **none},
        agent_snapshot,
    ),
    "agents.drain": Call(
        lambda k: k.agents.drain(OTHER, requested_by=AGENT, meta=Meta(note="n")),
        f"POST {V}/management/agents/b:drain",
        {
            "agent": other,
            "requested_by": agent,
            "meta": {"note": "n", "reason": None, "annotations": {}},
            "trace": None,
        },
        {"ok": True},
    ),
    "agents.resume": Call(
        lambda k: k.agents.resume(AGENT, requested_by=AGENT),
        f"POST {V}/management/agents/a:resume",
        {"agent": agent, "requested_by": agent, **none},
        {"ok": True},
    ),
    "agents.renew_presence": Call(
        lambda k: k.agents.renew_presence(AGENT),
        f"POST {V}/management/agents/a:heartbeat-presence",
        {"agent": agent, **none},
        {"ok": True},
    ),
    "agents.replace_metadata": Call(
        lambda k: k.agents.replace_metadata(AGENT, {"ui": {"label": "A"}}),
        f"PUT {V}/management/agents/a/public-metadata",
        {"agent": agent, "public_metadata": {"ui": {"label": "A"}}, **none},
        {"ok": True},
    ),
    "agents.feed": Call(
        lambda k: k.agents.feed(AGENT, after_ledger_seq=3, limit=5),
        f"GET {V}/agents/a/feed",
        answer=events,
        query={"after_ledger_seq": "3", "limit": "5"},
    ),
    "agents.feed_page": Call(
        lambda k: k.agents.feed_page(AGENT, after_ledger_seq=3, limit=5),
        f"GET {V}/agents/a/feed",
        answer=events,
        query={"after_ledger_seq": "3", "limit": "5"},
    ),
    "credentials.issue": Call(
        lambda k: k.credentials.issue(OTHER, IssueCredential(expires_at=NOW)),
        f"POST {V}/agents/b/credentials:issue",
        {
            "expires_at": "2026-11-22T17:00:00+00:00",
            "provenance_kind": None,
            "provenance_ref": None,
            "provenance_payload_hash": None,
        },
        {"credential": credential, "token": "cgac_1"},
    ),
    "credentials.revoke": Call(
        lambda k: k.credentials.revoke(AGENT, "cred_1"),
        f"POST {V}/agents/a/credentials/cred_1:revoke",
        {},
        {"credential": credential},
    ),
    "credentials.all_of": Call(
        lambda k: k.credentials.all_of(AGENT),
        f"GET {V}/agents/a/credentials",
        answer={"credentials": [credential]},
    ),
    "turns.dispatch root": Call(
        lambda k: k.turns.dispatch(dispatch_of(RootRequest(request_id="r"))),
        f"POST {V}/turns:dispatch",
        {
            "requested_by": agent,
            "target_agent": other,
            "input": None,
            "turn_kind": "turn.conversation.v1",
            "dispatch_key": "d",
            "authority": {"mode": "root_request", "request_id": "r"},
            **none,
        },
        turn,
    ),
    "turns.dispatch child": Call(
        lambda k: k.turns.dispatch(dispatch_of(ChildDerivation(parent_claim=CLAIM))),
        f"POST {V}/turns:dispatch",
        {
            "requested_by": agent,
            "target_agent": other,
            "input": None,
            "turn_kind": "turn.conversation.v1",
            "dispatch_key": "d",
            "authority": {"mode": "child_derivation", "parent_claim": claim},
            **none,
        },
        turn,
    ),
    "turns.get": Call(
        lambda k: k.turns.get(TURN, state="queued"),
        f"GET {V}/turns/T-1",
        answer=snapshot,
        query={"state": "queued"},
    ),
    "turns.context": Call(
        lambda k: k.turns.context(TURN, after_turn_seq=2, limit=9),
        f"GET {V}/turns/T-1/context",
        answer={"turn": snapshot, "semantic_items": []},
        query={"after_turn_seq": "2", "limit": "9"},
    ),
    "turns.context_page": Call(
        lambda k: k.turns.context_page(TURN, after_turn_seq=2, limit=9),
        f"GET {V}/turns/T-1/context",
        answer={"turn": snapshot, "semantic_items": []},
        query={"after_turn_seq": "2", "limit": "9"},
    ),
    "turns.feed": Call(
        lambda k: k.turns.feed(TURN),
        f"GET {V}/turns/T-1/feed",
        answer=events,
        query={"after_ledger_seq": "0", "limit": "100"},
    ),
    "turns.feed_page": Call(
        lambda k: k.turns.feed_page(TURN),
        f"GET {V}/turns/T-1/feed",
        answer=events,
        query={"after_ledger_seq": "0", "limit": "100"},
    ),
    "turns.append": Call(
        lambda k: k.turns.append(CLAIM, {"step": 1}),
        f"POST {V}/turns/T-1/semantic-records",
        {"claim": claim, "payload": {"step": 1}, "role": "progress", **none},
        {"project_id": "p", "cardbox_id": "b"},
    ),
    "turns.finish without a payload": Call(
        lambda k: k.turns.finish(CLAIM, "stopped"),
        f"POST {V}/turns/T-1:finish",
        {"claim": claim, "outcome": "stopped", "final_record_role": "deliverable", **none},
        {"ok": True},
    ),
    "turns.finish with null": Call(
        lambda k: k.turns.finish(CLAIM, "failed", final_payload=None, final_record_role="error_report"),
        f"POST {V}/turns/T-1:finish",
        {
            "claim": claim,
            "outcome": "failed",
            "final_payload": None,
            "final_record_role": "error_report",
            **none,
        },
        {"ok": True},
    ),
    "turns.suspend": Call(
        lambda k: k.turns.suspend(CLAIM, "why", note="n"),
        f"POST {V}/turns/T-1:suspend",
        {"claim": claim, "reason": "why", "note": "n", **none},
        {"ok": True},
    ),
    "turns.resume": Call(
        lambda k: k.turns.resume(TURN, requested_by=AGENT),
        f"POST {V}/turns/T-1:resume",
        {"requested_by": agent, "note": None, **none},
        {"ok": True},
    ),
    "turns.stop": Call(
        lambda k: k.turns.stop(TURN, requested_by=AGENT),
        f"POST {V}/management/turns/T-1:stop",
        {"turn": turn, "requested_by": agent, **none},
        turn,
    ),
    "turns.dispatch_many": Call(
        lambda k: k.turns.dispatch_many([dispatch_of(RootRequest(request_id="r"))]),
        f"POST {V}/turns:dispatch-many",
        {
            "items": [
                {
                    "requested_by": agent,
                    "target_agent": other,
                    "input": None,
                    "turn_kind": "turn.conversation.v1",
                    "dispatch_key": "d",
                    "authority": {"mode": "root_request", "request_id": "r"},
                    **none,
                }
            ]
        },
        {"items": [{"status": 200, "body": turn}]},
    ),
    "turns.tell": Call(
        lambda k: k.turns.tell(TURN, {"text": "hi"}, key="m1"),
        f"POST {V}/turns/T-1:tell",
        {"requested_by": agent, "message": {"text": "hi"}, "key": "m1", **none},
        {"project_id": "p", "cardbox_id": "b"},
    ),
    "turns.redo": Call(
        lambda k: k.turns.redo(TURN, keep_steps=True),
        f"POST {V}/turns/T-1:redo",
        {"requested_by": agent, "key": None, "keep_steps": True, **none},
        turn,
    ),
    "turns.settle_many": Call(
        lambda k: k.turns.settle_many(
            "p", (SettleItem(claim=CLAIM, credential="c", finish=Finish(outcome="succeeded")),)
        ),
        f"POST {V}/turns:settle-many",
        {
            "items": [
                {
                    "claim": claim,
                    "credential": "c",
                    "finish": {"outcome": "succeeded", "final_record_role": "deliverable", "meta": None},
                    "suspend": None,
                }
            ]
        },
        {"items": [{"status": 200, "body": {"ok": True}}]},
    ),
    "claims.claim": Call(
        lambda k: k.claims.claim(AGENT),
        f"POST {V}/agents/a/claims:claim",
        {"agent": agent, **none},
    ),
    "claims.renew": Call(
        lambda k: k.claims.renew(CLAIM),
        f"POST {V}/claims:renew",
        {"claim": claim, **none},
        {
            "server_time": claim["expires_at"],
            "expires_at": claim["expires_at"],
            "recommended_interval_seconds": 15.0,
        },
    ),
    "claims.reconcile_expired": Call(
        lambda k: k.claims.reconcile_expired(AGENT),
        f"POST {V}/claims:reconcile-expired",
        {"agent": agent, **none},
        {"scanned_count": 1, "reconciled_count": 1},
    ),
    "claims.claim_many": Call(
        lambda k: k.claims.claim_many("p", (ClaimItem(agent=AGENT, credential="c", limit=2),)),
        f"POST {V}/claims:claim-many",
        {"items": [{"agent": agent, "credential": "c", "limit": 2, "idempotency_key": None}]},
        {"items": []},
    ),
    "claims.renew_many": Call(
        lambda k: k.claims.renew_many("p", (RenewItem(claim=CLAIM, credential="c"),)),
        f"POST {V}/claims:renew-many",
        {"items": [{"claim": claim, "credential": "c"}]},
        {"items": []},
    ),
    "reports.submit": Call(
        lambda k: k.reports.submit(
            AGENT, Report(request_id="r", records=(ReportRecord(role="s", payload=1),))
        ),
        f"POST {V}/agents/a/work-memory-reports",
        {
            "kind": "agent_work_memory_report_manifest.v1",
            "request_id": "r",
            "summary": None,
            "records": [{"role": "s", "payload": 1, "source_refs": []}],
            "final_payload": None,
            "declared_project_id": None,
            "declared_agent_id": None,
        },
        {"status": "submitted", "turn": turn, "record_refs": [], "final_payload": None},
    ),
    "reports.submit as it is": Call(
        lambda k: k.reports.submit(AGENT, {"request_id": "r", "records": []}),
        f"POST {V}/agents/a/work-memory-reports",
        {"request_id": "r", "records": []},
        {"status": "submitted", "turn": turn, "record_refs": [], "final_payload": None},
    ),
    "schedules.put": Call(
        lambda k: k.schedules.put("s", SCHEDULE),
        f"PUT {V}/management/schedules/s",
        {**planned, "requested_by": agent},
        schedule,
    ),
    "schedules.get": Call(
        lambda k: k.schedules.get("p", "s"), f"GET {V}/management/schedules/s", answer=schedule
    ),
    "schedules.pause": Call(
        lambda k: k.schedules.pause("s", requested_by=AGENT),
        f"POST {V}/management/schedules/s:pause",
        {"requested_by": agent},
        schedule,
    ),
    "schedules.unpause": Call(
        lambda k: k.schedules.unpause("s", requested_by=AGENT),
        f"POST {V}/management/schedules/s:unpause",
        {"requested_by": agent},
        schedule,
    ),
    "schedules.trigger": Call(
        lambda k: k.schedules.trigger("s", requested_by=AGENT, key="k"),
        f"POST {V}/management/schedules/s:trigger",
        {"requested_by": agent, "key": "k"},
        turn,
    ),
    "schedules.delete": Call(
        lambda k: k.schedules.delete("p", "s"), f"DELETE {V}/management/schedules/s", answer={"ok": True}
    ),
    "projections.agents": Call(
        lambda k: k.projections.agents("p", enabled_only=True, capability="k", limit=3),
        f"GET {V}/projection/agents",
        answer=page,
        query={"enabled_only": "true", "capability": "k", "limit": "3"},
    ),
    "projections.turn_offers": Call(
        lambda k: k.projections.turn_offers("p", turn_kind="k", accepts_work_only=False),
        f"GET {V}/projection/turn-offers",
        answer=page,
        query={"turn_kind": "k", "accepts_work_only": "false"},
    ),
    "projections.turns": Call(
        lambda k: k.projections.turns("p", state="queued", stop_requested_only=True),
        f"GET {V}/projection/turns",
        answer={**page, "items": [entry]},
        query={"state": "queued", "stop_requested_only": "true"},
    ),
    "projections.lineage": Call(
        lambda k: k.projections.lineage("p", "T-1"),
        f"GET {V}/projection/turns/T-1/lineage",
        answer={
            "project_id": "p",
            "turn_id": "T-1",
            "parent": entry,
            "direct_children": [entry],
            "limit": 100,
        },
    ),
    "projections.feed": Call(
        lambda k: k.projections.feed("p", after_ledger_seq=0),
        f"GET {V}/projection/feed",
        answer={**page, "next_after_ledger_seq": 0},
        query={"after_ledger_seq": "0"},
    ),
    "readyz": Call(lambda k: k.readyz(), "GET /readyz", answer={"status": "ready"}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
async def test_a_call_asks_its_route(call: Call, answering: Callable[..., Peer]) -> None:
    """Method, path, query and body are those of wire 6, and the answer is read."""
    peer = answering(call.answer)
    await call.of(peer.kernel())
    assert f"{peer.asked.method} {peer.asked.url.path}" == call.request
    assert dict(peer.asked.url.params) == call.query
    assert peer.body == call.body


async def test_every_kernel_call_is_in_the_table_above(answering: Callable[..., Peer]) -> None:
    """A new call without a test here is noticed."""
    kernel = answering().kernel()
    nouns = ("turns", "claims", "agents", "credentials", "reports", "projections", "schedules")
    calls = {f"{n}.{name}" for n in nouns for name in dir(getattr(kernel, n)) if not name.startswith("_")}
    tested_elsewhere = {
        "schedules.all",
        "turns.records",
        "turns.events",
        "turns.follow",
        "turns.wait_for_records",
    }
    assert calls - tested_elsewhere == {name.split(" ")[0] for name in CALLS} - {"readyz"}


async def test_an_agent_says_who_it_is(answering: Callable[..., Peer]) -> None:
    """Two headers name it, its credential proves it."""
    peer = answering(agent_snapshot)
    await peer.kernel().agents.get(AGENT)
    headers = peer.asked.headers
    assert (headers["x-cg-project-id"], headers["x-cg-agent-id"]) == ("p", "a")
    assert headers["authorization"] == "Bearer cgac_x.y"


async def test_a_request_without_a_body_has_no_content_type(answering: Callable[..., Peer]) -> None:
    """And one with a body is JSON."""
    asked = answering(agent_snapshot)
    await asked.kernel().agents.get(AGENT)
    assert "content-type" not in asked.asked.headers
    told = answering({"ok": True})
    await told.kernel().agents.renew_presence(AGENT)
    assert told.asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("a:b", "a%3Ab"),
        ("ä", "%C3%A4"),
        ("a?b#c", "a%3Fb%23c"),
        ("..", "%2E%2E"),
        (".", "%2E"),
    ],
)
async def test_a_name_stays_in_its_place_of_the_path(
    name: str, segment: str, answering: Callable[..., Peer]
) -> None:
    """Whatever an id looks like, it leads to no other route."""
    peer = answering(agent_snapshot)
    await peer.kernel().agents.get(AgentRef(project_id=name, agent_id=name))
    assert peer.asked.url.raw_path == f"/v3r1/projects/{segment}/agents/{segment}".encode()


# ---------------------------------------------------------------- claims


async def test_no_work_is_no_claim(answering: Callable[..., Peer]) -> None:
    """The kernel says null."""
    answer = await answering(None).kernel().claims.claim(AGENT)
    assert answer.claimed is None
    assert not answer.waited


async def test_a_claim_asks_for_what_a_worker_needs_next(answering: Callable[..., Peer]) -> None:
    """One request instead of three, where the kernel can (difference 8)."""
    context = {"turn": snapshot, "semantic_items": []}
    peer = answering({**claim, "context": context, "lease_seconds": 30, "attempt": 2})
    claimed = (await peer.kernel().claims.claim(AGENT, idempotency_key="i")).claimed
    assert claimed is not None
    assert (claimed.turn, claimed.lease_seconds, claimed.attempt) == (TURN, 30.0, 2)
    assert peer.asked.headers["prefer"] == "return=representation"
    assert peer.asked.headers["idempotency-key"] == "i"


async def test_a_claim_waits_when_asked_to(answering: Callable[..., Peer]) -> None:
    """The wish to wait joins the other preference; whether it was granted is said by the kernel."""
    peer = answering(None, headers={"preference-applied": "wait=20"})
    answer = await peer.kernel().claims.claim(AGENT, wait_seconds=20.9)
    assert peer.asked.headers["prefer"] == "return=representation, wait=20"
    assert answer.waited


# ---------------------------------------------------------------- records


def item(seq: int) -> dict[str, Any]:
    box = {"project_id": "p", "cardbox_id": "b"}
    card = {"content": {"text": f"record {seq}", "__type__": "TextContent"}, "metadata": {}, "card_id": "c"}
    record = {
        "ref": {"project_id": "p", "record_id": f"record_{seq}"},
        "turn": turn,
        "turn_seq": seq,
        "record_role": "progress",
        "cardbox_ref": box,
        "created_at": claim["expires_at"],
    }
    return {
        "record": record,
        "content": {"ref": box, "box": {"card_ids": ["c"], "box_id": "b"}, "cards": [card]},
    }


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (2, 1), (3, 2), (7, 3)])
async def test_all_records_are_read_page_by_page(count: int, pages: int) -> None:
    """A full page may be followed by another."""
    peer = Peer(lambda request: page_of(request, count, most=100))
    read = [r.payload async for r in peer.kernel().turns.records(TURN, page_size=3)]
    assert read == [f"record {seq}" for seq in range(1, count + 1)]
    assert len(peer.requests) == pages


async def test_a_page_that_the_kernel_cut_is_not_the_last() -> None:
    """A page cut at the kernel's limit says that there is a next one (difference 11)."""
    peer = Peer(lambda request: page_of(request, 7, most=3))
    assert len([r async for r in peer.kernel().turns.records(TURN, page_size=5000)]) == 7


def page_of(request: httpx.Request, count: int, *, most: int) -> httpx.Response:
    after, limit = int(request.url.params["after_turn_seq"]), int(request.url.params["limit"])
    seqs = range(after + 1, min(count, after + min(limit, most)) + 1)
    cut = len(seqs) == most and after + most < count
    return httpx.Response(
        200,
        json={"turn": snapshot, "semantic_items": [item(seq) for seq in seqs]},
        headers={"link": '<next>; rel="next"'} if cut else {},
    )


# ---------------------------------------------------------------- admission


@frozen
class AdmissionCall:
    """As `Call`, of an admission service."""

    of: Callable[[AdmissionClient], Awaitable[Any]]
    request: str
    body: Any
    answer: Any


ADMISSION_CALLS = {
    "request_token": AdmissionCall(
        lambda a: a.request_token(
            "p",
            RequestCredentialToken(
                request_id="r", requested_agent_id="a", display_name="A", runtime_kind="x"
            ),
        ),
        "POST /admin/v1/projects/p/agent-credential-tokens:request",
        {
            "request_id": "r",
            "requested_agent_id": "a",
            "display_name": "A",
            "runtime_kind": "x",
            "description": None,
            "requested_role": "external.agent.v1",
            "requested_capabilities": ["turn.work_memory_report.v1"],
            "profile_kind": "byoa.work_memory_reporter.v1",
            "invitation_code": None,
            "creator_user_id": None,
        },
        admitted,
    ),
    "create_invite": AdmissionCall(
        lambda a: a.create_invite("p", CreateInvite(agent_id="a")),
        "POST /admin/v1/projects/p/agent-join-invites",
        {
            "agent_id": "a",
            "profile_kind": "byoa.conversation_worker.v1",
            "runtime_kind": "manual.shell.v1",
            "display_name": None,
            "description": None,
            "expires_in_seconds": 86400,
            "single_use": True,
            "max_uses": None,
        },
        {"invite": invite, "join_code": "cgjoin_1"},
    ),
    "invites": AdmissionCall(
        lambda a: a.invites("p"), "GET /admin/v1/projects/p/agent-join-invites", None, {"invites": [invite]}
    ),
    "revoke_invite": AdmissionCall(
        lambda a: a.revoke_invite("p", "aginv_1"),
        "POST /admin/v1/projects/p/agent-join-invites/aginv_1:revoke",
        {},
        {"invite": invite},
    ),
    "redeem": AdmissionCall(
        lambda a: a.redeem("cgjoin_1"),
        "POST /admin/v1/agent-joins:redeem",
        {"join_code": "cgjoin_1"},
        {**admitted, "invite": invite},
    ),
}


@pytest.mark.parametrize("call", ADMISSION_CALLS.values(), ids=list(ADMISSION_CALLS))
async def test_an_admission_call_asks_its_route(call: AdmissionCall, answering: Callable[..., Peer]) -> None:
    """As admission 4 has it, with the bearer of the admin API."""
    peer = answering(call.answer)
    await call.of(peer.admission())
    assert f"{peer.asked.method} {peer.asked.url.path}" == call.request
    assert peer.body == call.body
    assert peer.asked.headers["authorization"] == "Bearer bearer"
