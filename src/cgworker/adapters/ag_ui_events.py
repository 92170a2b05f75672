"""Translate what happens to a turn into the events of an AG-UI run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    Interrupt,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    StateSnapshotEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from attrs import define, field

from cgworker.adapters.messages import is_plain_json, text_of
from cgworker.adapters.turn_watch import TurnNews
from cgworker.durable.answers import OpenQuestion
from cgworker.wire.converter import dumps
from cgworker.wire.records import SemanticItem
from cgworker.wire.turns import TurnSnapshot

STATE_ROLE = "state"
"""The role of records that are the whole state of an agent, for its user interface."""

_PROGRESS = "commonground.progress"
_MASKED = "kept in private"


@define
class RunEvents:
    """The events of one run, in order.

    Args:
        thread_id: the conversation.
        run_id: the run.
        turn_id: the turn that the run follows.
    """

    _thread_id: str
    _run_id: str
    _turn_id: str
    _message_id: str | None = None  # of the message that is being written
    _text: str = ""  # of the last message
    _calls: dict[str, str] = field(factory=dict)  # the ids of begun calls of tools, by what records call them

    def of(self, item: SemanticItem) -> Iterator[BaseEvent]:
        """Yield the events of a record: text, a tool call, the state, or progress of another form.

        Args:
            item: the record.
        """
        role, payload = item.record.record_role, item.payload
        name = f"{self._turn_id}:{item.record.turn_seq}"
        if role == "progress" and _is_streamed(payload):
            yield from self._write(name, payload)
        elif role == "progress" and isinstance(payload, Mapping) and payload.keys() == {"tool", "state"}:
            yield from self._tell_tool(name, str(payload["tool"]), str(payload["state"]))
        elif role == "tool_call" and isinstance(payload, Mapping):
            yield from self._tell_call(payload)
        elif role == "step" and isinstance(payload, Mapping) and str(payload.get("key")).startswith("tool:"):
            yield from self._tell_step(name, payload)
        elif role == STATE_ROLE:
            yield StateSnapshotEvent(snapshot=_carried(payload))
        elif role == "progress":
            yield from self._end_message()
            yield CustomEvent(name=_PROGRESS, value=_carried(payload))

    def end(self, update: TurnNews) -> Iterator[BaseEvent]:
        """Yield the events that end the run; none if the turn goes on.

        Args:
            update: the turn, after its last record.
        """
        turn = update.snapshot
        if turn.state == "closed":
            yield from self._end_message()
            yield from self._outcome(turn)
        elif update.questions and not turn.stop_requested:
            yield from self._end_message()
            interrupts = [interrupt_of(question) for question in update.questions]
            yield self._finished(outcome=RunFinishedInterruptOutcome(interrupts=interrupts))

    def _outcome(self, turn: TurnSnapshot) -> Iterator[BaseEvent]:
        payload = turn.final_payload
        if turn.outcome == "failed":
            error = payload.get("error") if isinstance(payload, Mapping) else None
            code = error if isinstance(error, str) else "failed"
            yield RunErrorEvent(message=text_of(payload), code=code)
        elif turn.outcome == "stopped":
            yield self._finished(outcome=RunFinishedCancelledOutcome())
        else:
            text = payload.get("text") if isinstance(payload, Mapping) else payload
            if isinstance(text, str) and text not in ("", self._text):  # it was not streamed
                yield from self._write(f"{self._turn_id}:final", {"index": 0, "text": text})
                yield from self._end_message()
            yield self._finished(result=_carried(payload), outcome=RunFinishedSuccessOutcome())

    def _finished(self, **how: Any) -> RunFinishedEvent:
        return RunFinishedEvent(thread_id=self._thread_id, run_id=self._run_id, **how)

    # ------------------------------------------------------------ text

    def _write(self, name: str, piece: Mapping[str, Any]) -> Iterator[BaseEvent]:
        if piece["index"] == 0 or self._message_id is None:
            yield from self._end_message()
            self._message_id, self._text = name, ""
            yield TextMessageStartEvent(message_id=name, role="assistant")
        self._text += piece["text"]
        if piece["text"]:
            yield TextMessageContentEvent(message_id=self._message_id, delta=piece["text"])

    def _end_message(self) -> Iterator[BaseEvent]:
        if self._message_id is not None:
            yield TextMessageEndEvent(message_id=self._message_id)
            self._message_id = None

    # ------------------------------------------------------------ tools

    def _tell_tool(self, name: str, tool: str, state: str) -> Iterator[BaseEvent]:
        """Yield a call that is told by its beginning and its end, without arguments and results."""
        if state == "started":
            yield from self._begin_call(name, tool, tool)
        else:
            yield from self._end_call(name, tool, tool, state)

    def _tell_call(self, call: Mapping[str, Any]) -> Iterator[BaseEvent]:
        """Yield a call of a coding agent (ACP), which is told at its beginning and at its end."""
        key = str(call.get("id"))
        title = str(call.get("title") or call.get("kind") or "tool")
        if key not in self._calls:
            yield from self._begin_call(key, key, title, dumps(call.get("input") or {}).decode())
        if call.get("status") in ("completed", "failed"):
            yield from self._end_call(key, key, title, dumps(dict(call)).decode())

    def _tell_step(self, name: str, step: Mapping[str, Any]) -> Iterator[BaseEvent]:
        """Yield a call that was kept as a step when it was done: `tool:<name>`, and more after `:` or `#`."""
        tool = str(step["key"]).removeprefix("tool:").partition(":")[0].partition("#")[0]
        yield from self._end_call(name, name, tool, text_of(step["value"]) if "value" in step else _MASKED)

    def _begin_call(self, name: str, key: str, tool: str, arguments: str = "{}") -> Iterator[BaseEvent]:
        yield from self._end_message()
        self._calls[key] = name
        yield ToolCallStartEvent(tool_call_id=name, tool_call_name=tool)
        yield ToolCallArgsEvent(tool_call_id=name, delta=arguments)
        yield ToolCallEndEvent(tool_call_id=name)

    def _end_call(self, name: str, key: str, tool: str, result: str) -> Iterator[BaseEvent]:
        if key not in self._calls:
            yield from self._begin_call(name, key, tool)
        call_id = self._calls.pop(key)
        yield ToolCallResultEvent(message_id=f"{call_id}:result", tool_call_id=call_id, content=result)


def interrupt_of(question: OpenQuestion) -> Interrupt:
    """Return a question as an interrupt, whose id names the turn and the question.

    Args:
        question: the question.
    """
    return Interrupt(
        id=f"{question.turn.turn_id}:{question.key}",
        reason="question",
        message=text_of(question.question),
        response_schema=dict(question.schema),
    )


def _carried(value: Any) -> Any:
    """Return a value as it is, or as JSON in a text if an event cannot carry it."""
    return value if is_plain_json(value) else dumps(value).decode()


def _is_streamed(payload: Any) -> bool:
    return (
        isinstance(payload, Mapping)
        and payload.keys() == {"index", "text"}
        and isinstance(payload["index"], int)
        and isinstance(payload["text"], str)
    )
