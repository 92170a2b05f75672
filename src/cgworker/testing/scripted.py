"""A scripted kernel for one turn, which answers the real client's requests in the process, from memory.

It knows one turn and its children, uses the state machine of `lifecycle.py`, and refuses requests under any
claim but the current one. Leases do not run out: the player decides when one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import anyio
import httpx

from cgworker.client import KernelClient
from cgworker.errors import UsageError
from cgworker.lifecycle import Trigger, TurnState
from cgworker.testing.scripted_turn import RequestRefused, ScriptedTurn
from cgworker.testing.verbs import verb_of
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads
from cgworker.wire.order import ORDER_FIELDS
from cgworker.wire.refs import AgentRef

_LEASE_SECONDS = 30.0
_PAGE = 100


class ScriptedKernel(httpx.AsyncBaseTransport):
    """Answers the requests of one agent about one turn.

    Args:
        turn: the turn to claim.
        attempt: the number of the attempt that its first claim is.
        on_record: called with the role and payload of each record that is appended.
        is_interrupted_later: True if a handler will be interrupted that waits for a message in vain.

    Attributes:
        turn: the turn that is played.
        children: the turns dispatched under its claim, by dispatch key.
    """

    def __init__(
        self,
        turn: ScriptedTurn,
        *,
        attempt: int = 1,
        on_record: Callable[[str, Any], None] = lambda _role, _payload: None,
        is_interrupted_later: bool = False,
        now: datetime | None = None,
    ) -> None:
        self.turn = turn
        self._ahead = timedelta(0) if now is None else now - datetime.now(UTC)
        turn.clock = self.clock
        self._is_interrupted_later = is_interrupted_later
        self._on_record = on_record
        self.children: dict[str, ScriptedTurn] = {}
        self._attempt = attempt
        self._is_lost = False

    def client(self) -> KernelClient:
        """Return a real client that sends its requests to this kernel."""
        http = httpx.AsyncClient(transport=self)
        return KernelClient("https://play.invalid", agent=self.turn.agent, token="play", http=http)

    def end_child(self, child: ScriptedTurn, outcome: str, payload: Any) -> None:
        """Close a child, as its agent would.

        Args:
            child: the child.
            outcome: "succeeded", "failed" or "stopped".
            payload: the final payload; absent leaves no record.
        """
        child.close(outcome, payload, "error_report" if outcome == "failed" else "deliverable")
        self.turn.tell("turn.finished", child.turn_id)

    def resume(self, **annotations: Any) -> None:
        """Resume the turn.

        Args:
            **annotations: the caller's annotations.
        """
        self.turn.change(Trigger.RESUME, "turn.resumed", caller={"annotations": annotations})

    @property
    def suspended_with(self) -> Mapping[str, Any]:
        """The annotations of the last suspension."""
        suspensions = [event for event in self.turn.events if event["event_type"] == "turn.suspended"]
        return suspensions[-1]["annotations"]["caller"]["annotations"] if suspensions else {}

    @property
    def suspended_for(self) -> float | None:
        """After how many seconds the last suspension ends by itself; None if it does not."""
        events = [event for event in self.turn.events if event["event_type"] == "turn.suspended"]
        return events[-1]["annotations"].get("resume_after_seconds") if events else None

    def clock(self) -> datetime:
        """Return the time by the kernel's clock, which `advance` moves."""
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Args:
            seconds: by how much.
        """
        self._ahead += timedelta(seconds=seconds)

    def lose_claim(self) -> None:
        """Refuse all further requests under the current claim."""
        self._is_lost = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of the client.

        Args:
            request: the request.
        """
        body = loads(content) if (content := await request.aread()) else {}
        headers = {"content-type": "application/json"}
        try:
            status, answer = 200, self._answer(request, body)
        except RequestRefused as refused:
            status, answer = refused.status, refused.body
        if request.url.path.endswith("/context") and (preference := request.headers.get("prefer")):
            headers["preference-applied"] = preference
            await self._wait_if_empty(answer)
        return httpx.Response(status, content=dumps(answer), headers=headers)

    async def _wait_if_empty(self, page: Any) -> None:
        """Wait for a message after the last one of the script, which lasts until an interruption."""
        if not page["semantic_items"]:
            if not self._is_interrupted_later:
                raise UsageError(
                    "the handler waits for one more message than it is told: play(messages=[...])"
                )
            await anyio.sleep_forever()

    def _answer(self, request: httpx.Request, body: Any) -> Any:
        answers: dict[str | None, Callable[[], Any]] = {
            "claim": self._claim,
            "renew": lambda: self._renew(body),
            "reconcile": lambda: {"scanned_count": 0, "reconciled_count": 0},
            "append": lambda: self._append(body),
            "dispatch": lambda: self._dispatch(body),
            "finish": lambda: self._finish(body),
            "suspend": lambda: self._suspend(body),
            "resume": lambda: self._resume(body),
            "get": lambda: self._find(request).snapshot,
            "context": lambda: self._context(request),
            "feed": lambda: self._feed(request),
        }
        answer = answers.get(verb_of(request.method, request.url.path))
        if answer is None:
            raise RequestRefused(404, "NotFoundError", f"play() has no {request.method} {request.url.path}")
        return answer()

    # ------------------------------------------------------------ the claim

    def _claim(self) -> Any:
        if self.turn.state is not TurnState.QUEUED:
            return None
        self.turn.change(Trigger.CLAIM, "turn.claimed")
        self.turn.claims_count += 1
        now = self.clock()
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
            raise RequestRefused(409, "FencingError", "the claim is not the current one")

    def _renew(self, body: Any) -> Any:
        self._fence(body["claim"])
        now = self.clock()
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
                order={name: body[name] for name in ORDER_FIELDS if name in body and name != "delay_seconds"},
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
        annotations = {
            "reason": body["reason"],
            "note": body.get("note"),
            "annotations": meta.get("annotations", {}),
        }
        delay = body.get("resume_after_seconds")
        self.turn.change(Trigger.SUSPEND, "turn.suspended", caller=annotations, resume_after_seconds=delay)
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
        raise RequestRefused(404, "NotFoundError", f"turn not found: {turn_id}")

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
