"""A kernel for one turn, from a script: what the real client sends is answered in the process, from memory.

It knows one turn and its children, takes the state machine of `lifecycle.py`, and refuses whatever comes
under another claim than the current one. There is no lease to run out: who plays says when it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx
from attrs import define, field

from cgworker.client import KernelClient
from cgworker.errors import InvariantError
from cgworker.lifecycle import Trigger, TurnState, advance
from cgworker.testing.verbs import verb_of
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads
from cgworker.wire.refs import AgentRef

_LEASE_SECONDS = 30.0
_PAGE = 100


class _Refused(Exception):
    """What a request gets instead of an answer."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "message": message}


def payload_of(item: Mapping[str, Any]) -> Any:
    """What a record says."""
    content = item["content"]["cards"][0]["content"]
    return content["text"] if "text" in content else content["data"]


@define(kw_only=True)
class ScriptedTurn:
    """A turn as the script keeps it: the one that is played, or a child of it."""

    turn_id: str
    agent: AgentRef
    kind: str
    spawn_key: str
    cause: Mapping[str, str] = field(factory=lambda: {"kind": "external_request", "id": "play"})
    state: TurnState = TurnState.QUEUED
    outcome: str | None = None
    stop_requested: bool = False
    claims_count: int = 0
    final_role: str | None = None
    final_payload: Any = ABSENT
    records: list[dict[str, Any]] = field(factory=list)
    events: list[dict[str, Any]] = field(factory=list)
    created_at: datetime = field(factory=lambda: datetime.now(UTC))

    @property
    def token(self) -> str:
        """What its current claim's holder has to show."""
        return f"{self.turn_id}-claim-{self.claims_count}"

    def change(self, event: Trigger, name: str | None = None, **annotations: Any) -> None:
        """Go on to the state that an event leads to, and keep the event under its name."""
        try:
            self.state = advance(self.state, event)
        except InvariantError as impossible:
            raise _Refused(409, "ConflictError", str(impossible)) from impossible
        if name is not None:
            self.tell(name, self.turn_id, **annotations)

    def tell(self, name: str, turn_id: str, **annotations: Any) -> None:
        """Keep an event of this turn or of a child, as both stand in the feed of a parent."""
        self.events.append({"event_type": name, "subject_id": turn_id, "annotations": annotations})

    def add_record(self, payload: Any, role: str) -> dict[str, Any]:
        """Append a record; returns where its content is."""
        number = len(self.records) + 1
        ref = {"project_id": self.agent.project_id, "cardbox_id": f"box-{self.turn_id}-{number}"}
        content = {"text": payload} if isinstance(payload, str) else {"data": payload}
        card = {"content": content, "metadata": {}, "card_id": f"card-{number}"}
        record = {
            "ref": {"project_id": self.agent.project_id, "record_id": f"record-{number}"},
            "turn": self.ref,
            "turn_seq": number,
            "record_role": role,
            "cardbox_ref": ref,
            "created_at": datetime.now(UTC),
        }
        box = {"card_ids": [card["card_id"]], "box_id": ref["cardbox_id"]}
        self.records.append({"record": record, "content": {"ref": ref, "box": box, "cards": [card]}})
        return ref

    def close(self, outcome: str, payload: Any, role: str) -> None:
        """End it, whoever did the work."""
        self.state, self.outcome = TurnState.CLOSED, outcome
        self.final_role, self.final_payload = (None, ABSENT) if payload is ABSENT else (role, payload)

    @property
    def input(self) -> Any:
        """What it was dispatched with."""
        return payload_of(self.records[0])

    @property
    def ref(self) -> dict[str, Any]:
        """Its name, as it travels."""
        return {"project_id": self.agent.project_id, "turn_id": self.turn_id}

    @property
    def snapshot(self) -> dict[str, Any]:
        """It as it stands, as it travels."""
        has_final = self.final_payload is not ABSENT
        return {
            "turn": self.ref,
            "target_agent": {"project_id": self.agent.project_id, "agent_id": self.agent.agent_id},
            "turn_kind": self.kind,
            "cause": self.cause,
            "state": self.state,
            "outcome": self.outcome,
            "stop_requested": self.stop_requested,
            "spawn_key": self.spawn_key,
            "final_record_role": self.final_role,
            "final_cardbox_ref": {**self.ref, "cardbox_id": "box-final"} if has_final else None,
            "final_payload": self.final_payload if has_final else None,
            "created_at": self.created_at,
            "updated_at": self.created_at,
            "closed_at": self.created_at if self.state is TurnState.CLOSED else None,
        }


class ScriptedKernel(httpx.AsyncBaseTransport):
    """Answers the requests of one agent about one turn.

    Args:
        turn: the turn that will be claimed.
        attempt: which attempt its first claim is.
        on_record: told of the role and payload of each record that is appended.

    Attributes:
        turn: the turn played.
        children: what was dispatched under its claim, by dispatch key.
    """

    def __init__(
        self,
        turn: ScriptedTurn,
        *,
        attempt: int = 1,
        on_record: Callable[[str, Any], None] = lambda _role, _payload: None,
    ) -> None:
        self.turn = turn
        self._on_record = on_record
        self.children: dict[str, ScriptedTurn] = {}
        self._attempt = attempt
        self._is_lost = False

    def client(self) -> KernelClient:
        """The real client, with this kernel in place of a network."""
        http = httpx.AsyncClient(transport=self)
        return KernelClient("https://play.invalid", agent=self.turn.agent, token="play", http=http)

    def end_child(self, child: ScriptedTurn, outcome: str, payload: Any) -> None:
        """Somebody has done a child's work."""
        child.close(outcome, payload, "error_report" if outcome == "failed" else "deliverable")
        self.turn.tell("turn.finished", child.turn_id)

    def resume(self, **annotations: Any) -> None:
        """Somebody resumes the turn, with these annotations."""
        self.turn.change(Trigger.RESUME, "turn.resumed", caller={"annotations": annotations})

    @property
    def suspended_with(self) -> Mapping[str, Any]:
        """The annotations of the last suspension."""
        told = [event for event in self.turn.events if event["event_type"] == "turn.suspended"]
        return told[-1]["annotations"]["caller"]["annotations"] if told else {}

    def lose_claim(self) -> None:
        """From now on nothing is taken under the current claim."""
        self._is_lost = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of the client."""
        body = loads(content) if (content := await request.aread()) else {}
        try:
            status, answer = 200, self._answer(request, body)
        except _Refused as refused:
            status, answer = refused.status, refused.body
        return httpx.Response(status, content=dumps(answer), headers={"content-type": "application/json"})

    def _answer(self, request: httpx.Request, body: Any) -> Any:
        verb = verb_of(request.method, request.url.path)
        match verb:
            case "claim":
                return self._claim()
            case "renew":
                return self._renew(body)
            case "reconcile":
                return {"scanned_count": 0, "reconciled_count": 0}
            case "append":
                return self._append(body)
            case "dispatch":
                return self._dispatch(body)
            case "finish":
                return self._finish(body)
            case "suspend":
                return self._suspend(body)
            case "resume":
                return self._resume(body)
            case "get":
                return self._find(request).snapshot
            case "context":
                return self._context(request)
            case "feed":
                return self._feed(request)
        raise _Refused(404, "NotFoundError", f"play() has no {request.method} {request.url.path}")

    # ------------------------------------------------------------ the claim

    def _claim(self) -> Any:
        if self.turn.state is not TurnState.QUEUED:
            return None
        self.turn.change(Trigger.CLAIM, "turn.claimed")
        self.turn.claims_count += 1
        now = datetime.now(UTC)
        return {
            **self.turn.ref,
            "agent_id": self.turn.agent.agent_id,
            "token": self.turn.token,
            "expires_at": now + timedelta(seconds=_LEASE_SECONDS),
            "lease_seconds": _LEASE_SECONDS,
            "server_time": now,
            "attempt": self._attempt,
            "context": {"turn": self.turn.snapshot, "semantic_items": self.turn.records[:_PAGE]},
        }

    def _fence(self, claim: Mapping[str, Any]) -> None:
        if self._is_lost or claim["token"] != self.turn.token or self.turn.state is not TurnState.RUNNING:
            raise _Refused(409, "FencingError", "the claim is not the current one")

    def _renew(self, body: Any) -> Any:
        self._fence(body["claim"])
        now = datetime.now(UTC)
        return {
            "server_time": now,
            "expires_at": now + timedelta(seconds=_LEASE_SECONDS),
            "recommended_interval_seconds": _LEASE_SECONDS / 3,
            "stop_requested": self.turn.stop_requested,
        }

    # ------------------------------------------------------------ under the claim

    def _append(self, body: Any) -> Any:
        self._fence(body["claim"])
        self.turn.change(Trigger.APPEND, "turn.progress_appended")
        self._on_record(body["role"], body["payload"])
        return self.turn.add_record(body["payload"], body["role"])

    def _dispatch(self, body: Any) -> Any:
        self._fence(body["authority"].get("parent_claim", {"token": ""}))
        key = body["dispatch_key"]
        if key not in self.children:
            child = ScriptedTurn(
                turn_id=f"{self.turn.turn_id}-{len(self.children) + 1}",
                agent=AgentRef(**body["target_agent"]),
                kind=body["turn_kind"],
                spawn_key=key,
                cause={"kind": "turn", "id": self.turn.turn_id},
            )
            child.add_record(body["input"], "bootstrap")
            self.children[key] = child
            self.turn.tell("turn.spawned", child.turn_id)
        return self.children[key].ref

    def _finish(self, body: Any) -> Any:
        self._fence(body["claim"])
        self.turn.change(Trigger.FINISH, "turn.finished")
        self.turn.close(body["outcome"], body.get("final_payload", ABSENT), body["final_record_role"])
        return {"ok": True}

    def _suspend(self, body: Any) -> Any:
        self._fence(body["claim"])
        meta = body.get("meta") or {}
        said = {
            "reason": body["reason"],
            "note": body.get("note"),
            "annotations": meta.get("annotations", {}),
        }
        self.turn.change(Trigger.SUSPEND, "turn.suspended", caller=said)
        return {"ok": True}

    def _resume(self, body: Any) -> Any:
        self.turn.change(Trigger.RESUME, "turn.resumed", caller=_remarks(body))
        return {"ok": True}

    # ------------------------------------------------------------ reading

    def _find(self, request: httpx.Request) -> ScriptedTurn:
        turn_id = unquote(request.url.path.split("/turns/")[1].split("/")[0])
        for turn in (self.turn, *self.children.values()):
            if turn.turn_id == turn_id:
                return turn
        raise _Refused(404, "NotFoundError", f"turn not found: {turn_id}")

    def _context(self, request: httpx.Request) -> Any:
        turn = self._find(request)
        return {"turn": turn.snapshot, "semantic_items": _page(request, turn.records, "after_turn_seq")}

    def _feed(self, request: httpx.Request) -> Any:
        events = self._find(request).events
        first = int(request.url.params.get("after_ledger_seq", 0))
        numbered = [
            {
                "ledger_seq": number,
                "project_id": self.turn.agent.project_id,
                "subject_kind": "turn",
                "actor_kind": "agent",
                "actor_id": self.turn.agent.agent_id,
                "created_at": self.turn.created_at,
                **event,
            }
            for number, event in enumerate(events, 1)
        ]
        items = _page(request, numbered, "after_ledger_seq")
        return {"items": items, "next_after_ledger_seq": first + len(items)}


def _remarks(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"note": body.get("note"), "annotations": (body.get("meta") or {}).get("annotations", {})}


def _page(request: httpx.Request, items: Sequence[Any], after: str) -> list[Any]:
    first = int(request.url.params.get(after, 0))
    return list(items[first : first + int(request.url.params.get("limit", _PAGE))])
