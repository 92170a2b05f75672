"""A kernel that says the same text everywhere, to a console without a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from cgworker import AgentRef, KernelClient
from cgworker.console.app import make_app
from cgworker.console.session import Sessions

NOW = "2026-01-02T03:04:05Z"
PAGES = (
    *("/", "/?window=86400", "/agents", "/turns", "/turns/T-1", "/turns/T-1/records/1"),
    *("/turns/T-1/stop", "/turns/T-1/redo", "/questions", "/questions?turn=T-1", "/questions/T-1?key=k"),
    *("/schedules", "/dispatch", "/dispatch/a/k", "/turns/T-1/nowhere"),
)
ME = AgentRef(project_id="p", agent_id="me")


def _ref(**ids: Any) -> dict[str, Any]:
    return {"project_id": "p", **ids}


def answers(text: str) -> dict[str, Any]:
    """The bodies of the kernel's answers, by the end of their paths."""
    schema = {"title": text, "description": text, "type": "object", "properties": {text: {"title": text}}}
    turn: dict[str, Any] = {
        "turn": _ref(turn_id="T-1"),
        "target_agent": _ref(agent_id=text),
        "turn_kind": text,
    }
    turn |= {"cause": {"kind": "external_request", "id": text}, "state": "suspended", "stop_requested": True}
    turn |= {"spawn_key": text, "created_at": NOW, "updated_at": NOW, "serial_key": text}
    turn |= {"final_cardbox_ref": _ref(cardbox_id="b"), "final_payload": {text: text}, "outcome": None}
    entry: dict[str, Any] = {
        "turn_id": "T-1",
        "project_turn_seq": 1,
        "target_agent_id": text,
        "turn_kind": text,
    }
    entry |= {"state": "suspended", "outcome": None, "stop_requested": True, "cause_kind": "turn"}
    entry |= {"cause_id": text, "created_at": NOW, "updated_at": NOW, "closed_at": None}
    payloads = (text, {"key": text, "value": text}, {"key": "k", "question": text, "schema": schema})
    records = [
        _record(seq, role, each)
        for seq, (role, each) in enumerate(zip(("progress", "step", "question"), payloads, strict=True), 1)
    ]
    records.append(_record(4, "progress", {"index": 0, "text": text}))
    event: dict[str, Any] = {
        "ledger_seq": 1,
        "project_id": "p",
        "event_type": "turn.suspended",
        "subject_kind": "turn",
    }
    event |= {"subject_id": "T-1", "actor_kind": "agent", "actor_id": text, "created_at": NOW, "note": text}
    event |= {"annotations": {"caller": {"reason": text, "note": text}}}
    offer = {"turn_kind": text, "purpose": text, "calling": {}, "input_contract": {"json_schema": schema}}
    agent: dict[str, Any] = {
        "role": text,
        "description": text,
        "enabled": True,
        "accepts_work": True,
        "capabilities": [text],
    }
    agent |= {"public_metadata": {"turn_offers": [offer]}, "grants": [text]}
    schedule: dict[str, Any] = {
        "cron": text,
        "target_agent": _ref(agent_id=text),
        "turn_kind": text,
        "input": text,
    }
    schedule |= {"schedule_id": text, "requested_by": _ref(agent_id=text), "paused": True, "timezone": text}
    schedule |= {"created_at": NOW, "updated_at": NOW}
    page = {"project_id": "p", "limit": 100}
    return {
        "/projection/turns": {**page, "items": [entry]},
        "/lineage": {
            **page,
            "turn_id": "T-1",
            "parent": entry,
            "direct_children": [{**entry, "turn_id": "T-2"}],
        },
        "/projection/agents": {**page, "items": [{"agent_id": text, **agent}]},
        "/projection/turn-offers": {**page, "items": [_offer(text, offer)]},
        "/projection/feed": {**page, "items": [], "next_after_ledger_seq": 0},
        "/management/schedules": {"items": [schedule], "next_after": None},
        "/turns/T-1": turn,
        "/context": {"turn": turn, "semantic_items": records},
        "/feed": {"items": [event], "next_after_ledger_seq": 1},
        "": {"agent": _ref(agent_id=text), **agent, "capacity": 1, "created_at": NOW, "updated_at": NOW},
    }


def _offer(text: str, offer: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent_id": text,
        "agent_label": text,
        **offer,
        "variants": {},
        "enabled": True,
        "accepts_work": False,
    }


def _record(seq: int, role: str, payload: Any) -> dict[str, Any]:
    content = {"text": payload} if isinstance(payload, str) else {"data": payload}
    card = {"content": {**content, "__type__": "x"}, "metadata": {}, "card_id": "c"}
    record: dict[str, Any] = {"ref": _ref(record_id=f"r{seq}"), "turn": _ref(turn_id="T-1"), "turn_seq": seq}
    record |= {"record_role": role, "cardbox_ref": _ref(cardbox_id="b"), "created_at": NOW}
    box = {"ref": _ref(cardbox_id="b"), "box": {"card_ids": ["c"], "box_id": "b"}, "cards": [card]}
    return {"record": record, "content": box}


@asynccontextmanager
async def console_of(text: str, *, needs_link: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a window, at a console of that kernel."""
    bodies = answers(text)

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        body = next(body for end, body in bodies.items() if path.endswith(end))
        query = request.url.params
        if path.endswith("/context") and int(query.get("after_turn_seq", 0)) >= 4:
            body = {**body, "semantic_items": []}
        return httpx.Response(200, json=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        kernel = KernelClient("http://127.0.0.1:9", agent=ME, token="cgac_x", http=http)
        app = make_app(kernel, Sessions(needs_link=needs_link), hosts={"127.0.0.1:1"})
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
            client.app = app  # type: ignore[attr-defined]
            yield client
        await app.state.console.stop()
