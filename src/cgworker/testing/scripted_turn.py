"""A turn in the memory of a scripted kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from cgworker.errors import InvariantError
from cgworker.lifecycle import Trigger, TurnState, advance
from cgworker.wire.absent import ABSENT
from cgworker.wire.refs import AgentRef


class RequestRefused(Exception):
    """The refusal of a request."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": error, "message": message}


def payload_of(item: Mapping[str, Any]) -> Any:
    """Return a record's content.

    Args:
        item: the record, in its form on the wire.
    """
    content = item["content"]["cards"][0]["content"]
    return content["text"] if "text" in content else content["data"]


@define(kw_only=True)
class ScriptedTurn:
    """A turn in memory: the one that is played, or a child of it."""

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
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    created_at: datetime = field(factory=lambda: datetime.now(UTC))
    order: Mapping[str, Any] = field(factory=dict)

    @property
    def token(self) -> str:
        """The token of the current claim."""
        return f"{self.turn_id}-claim-{self.claims_count}"

    def change(self, event: Trigger, name: str | None = None, **annotations: Any) -> None:
        """Change the state as an event demands, and add the event to the feed.

        Args:
            event: the event of the state machine.
            name: the event's type in the feed; None adds no event to it.
            **annotations: the event's annotations.
        """
        try:
            self.state = advance(self.state, event)
        except InvariantError as impossible:
            raise RequestRefused(409, "ConflictError", str(impossible)) from impossible
        if name is not None:
            self.tell(name, self.turn_id, **annotations)

    def tell(self, name: str, turn_id: str, **annotations: Any) -> None:
        """Add an event of this turn or of a child to the feed.

        Args:
            name: the event's type.
            turn_id: the turn it is about.
            **annotations: the event's annotations.
        """
        self.events.append({"event_type": name, "subject_id": turn_id, "annotations": annotations})

    def add_record(self, payload: Any, role: str) -> dict[str, Any]:
        """Append a record.

        Args:
            payload: the content, a JSON value.
            role: the record's role.

        Returns:
            The reference of the content, in its form on the wire.
        """
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
            "created_at": self.clock(),
        }
        box = {"card_ids": [card["card_id"]], "box_id": ref["cardbox_id"]}
        self.records.append({"record": record, "content": {"ref": ref, "box": box, "cards": [card]}})
        return ref

    def close(self, outcome: str, payload: Any, role: str) -> None:
        """Close the turn.

        Args:
            outcome: "succeeded", "failed" or "stopped".
            payload: the final payload; absent leaves no record.
            role: the role of the final record.
        """
        self.state, self.outcome = TurnState.CLOSED, outcome
        self.final_role, self.final_payload = (None, ABSENT) if payload is ABSENT else (role, payload)

    @property
    def input(self) -> Any:
        """The turn's input."""
        return payload_of(self.records[0])

    @property
    def ref(self) -> dict[str, Any]:
        """The turn's reference, in its form on the wire."""
        return {"project_id": self.agent.project_id, "turn_id": self.turn_id}

    @property
    def snapshot(self) -> dict[str, Any]:
        """The turn's current state, in its form on the wire."""
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
            **self.order,
        }
