"""Read an A2A task from a turn's records and events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from a2a.types import (
    Artifact,
    Message,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from attrs import frozen

from cgworker.adapters.a2a_parts import parts_of
from cgworker.durable.answers import OpenQuestion
from cgworker.durable.questions import answer_in
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.records import SemanticItem
from cgworker.wire.turns import TurnSnapshot

RESULT = "result"
"""The id of a task's artifact: streamed text, which the deliverable replaces at the end."""

_CLOSED = {
    "succeeded": TaskState.TASK_STATE_COMPLETED,
    "failed": TaskState.TASK_STATE_FAILED,
    "stopped": TaskState.TASK_STATE_CANCELED,
}
PAUSED_OR_ENDED = (*_CLOSED.values(), TaskState.TASK_STATE_INPUT_REQUIRED)
"""The states in which a task has ended, or waits for its client's input."""

Update = TaskStatusUpdateEvent | TaskArtifactUpdateEvent


@frozen
class Origin:
    """The message that began a turn, as stored in the annotations of its dispatch.

    Attributes:
        message_id: the id of the message.
        context_id: the conversation that the message belongs to.
        user: the sender's digest; empty if callers are not authenticated.
        dispatched_by: the agent that dispatched the turn.
    """

    message_id: str
    context_id: str
    user: str
    dispatched_by: str


def annotation_for(message: Message, user: str) -> dict[str, Any]:
    """Return the annotation of a dispatch, for `origin_in` to find.

    Args:
        message: the message that begins the turn.
        user: the sender's digest; empty if callers are not authenticated.
    """
    said = {"message_id": message.message_id, "context_id": message.context_id, "user": user}
    return {"a2a": said}


def origin_in(events: Iterable[LedgerEvent]) -> Origin | None:
    """Return the origin of a turn; None if it was not an A2A message.

    Args:
        events: the turn's events.
    """
    spawned = next((event for event in events if event.event_type == "turn.spawned"), None)
    caller = spawned.annotations.get("caller") if spawned else None
    annotations = caller.get("annotations") if isinstance(caller, Mapping) else None
    said = annotations.get("a2a") if isinstance(annotations, Mapping) else None
    if spawned is None or not isinstance(said, Mapping):
        return None
    return Origin(
        message_id=str(said.get("message_id")),
        context_id=str(said.get("context_id") or spawned.subject_id),
        user=str(said.get("user")),
        dispatched_by=spawned.actor_id,
    )


@frozen
class TurnAsTask:
    """A turn with all the data of its task."""

    snapshot: TurnSnapshot
    origin: Origin
    events: Sequence[LedgerEvent]
    items: Sequence[SemanticItem]
    questions: Sequence[OpenQuestion]

    def task(self, history_length: int | None = None) -> Task:
        """Return the current state of the task.

        Args:
            history_length: how many of the last messages to include; None means all.
        """
        history = self._history()
        return Task(
            id=self.snapshot.turn.turn_id,
            context_id=self.origin.context_id,
            status=self.status(),
            artifacts=self._artifacts(),
            history=history if history_length is None else history[len(history) - history_length :],
        )

    def status(self) -> TaskStatus:
        """The task's status, with its message."""
        state, content = self._state_and_content()
        status = TaskStatus(state=state, timestamp=self.snapshot.updated_at)
        if content is not None:
            status.message.CopyFrom(self.message(content, f"{self.snapshot.turn.turn_id}:{state}"))
        return status

    def _state_and_content(self) -> tuple[TaskState, Any]:
        turn = self.snapshot
        if turn.state == "closed":
            state = _CLOSED[turn.outcome or "failed"]
            return state, turn.final_payload if turn.outcome == "failed" else None
        if self.questions and not turn.stop_requested:
            return TaskState.TASK_STATE_INPUT_REQUIRED, self.questions[-1].question
        was_claimed = any(event.event_type == "turn.claimed" for event in self.events)
        return TaskState.TASK_STATE_WORKING if was_claimed else TaskState.TASK_STATE_SUBMITTED, None

    def message(self, content: Any, message_id: str, role: Role = Role.ROLE_AGENT) -> Message:
        """Return a message of this task.

        Args:
            content: the content, a JSON value.
            message_id: the id of the message.
            role: the sender's role.
        """
        return Message(
            message_id=message_id,
            task_id=self.snapshot.turn.turn_id,
            context_id=self.origin.context_id,
            role=role,
            parts=parts_of(content),
        )

    def _history(self) -> list[Message]:
        """Return the caller's messages: the one that began the task, and the answers."""
        answers = [said for event in self.events if isinstance(said := answer_in(event), Mapping)]
        return [
            self.message(self.items[0].payload, self.origin.message_id, Role.ROLE_USER),
            *(self.message(each.get("value"), str(each.get("id")), Role.ROLE_USER) for each in answers),
        ]

    def _artifacts(self) -> list[Artifact]:
        if self._delivered is not None:
            return [_artifact(self._delivered)]
        text = ""
        for said in filter(is_streamed, (item.payload for item in self.items)):
            text = said["text"] if said["index"] == 0 else text + said["text"]
        return [_artifact(text)] if text else []

    @property
    def _delivered(self) -> Any:
        return self.snapshot.final_payload if self.snapshot.outcome in ("succeeded", "stopped") else None

    def updates_after(self, turn_seq: int) -> list[Update]:
        """Return the updates that later records stand for: pieces of text, and other progress.

        Args:
            turn_seq: the number of the last record that was reported.
        """
        new = [item for item in self.items if item.record.turn_seq > turn_seq]
        updates = [self._update(item) for item in new if item.record.record_role == "progress"]
        if self._delivered is not None:
            updates.append(self._artifact_update(self._delivered, append=False))
        return updates

    def _update(self, item: SemanticItem) -> Update:
        if is_streamed(item.payload):
            return self._artifact_update(item.payload["text"], append=item.payload["index"] > 0)
        message_id = f"{self.snapshot.turn.turn_id}:{item.record.turn_seq}"
        status = TaskStatus(
            state=TaskState.TASK_STATE_WORKING,
            message=self.message(item.payload, message_id),
            timestamp=item.record.created_at,
        )
        return self.status_update(status)

    def _artifact_update(self, value: Any, *, append: bool) -> TaskArtifactUpdateEvent:
        return TaskArtifactUpdateEvent(
            task_id=self.snapshot.turn.turn_id,
            context_id=self.origin.context_id,
            artifact=_artifact(value),
            append=append,
            last_chunk=self.snapshot.state == "closed",
        )

    def status_update(self, status: TaskStatus) -> TaskStatusUpdateEvent:
        """Return the event that reports a status.

        Args:
            status: the status.
        """
        return TaskStatusUpdateEvent(
            task_id=self.snapshot.turn.turn_id, context_id=self.origin.context_id, status=status
        )


def is_streamed(payload: Any) -> bool:
    """Return True if a record is a piece of text, as `turn.stream` makes them.

    Args:
        payload: the record's content.
    """
    return (
        isinstance(payload, Mapping)
        and payload.keys() == {"index", "text"}
        and isinstance(payload["index"], int)
        and isinstance(payload["text"], str)
    )


def _artifact(value: Any) -> Artifact:
    return Artifact(artifact_id=RESULT, name=RESULT, parts=parts_of(value))
