"""Run a handler again on a past turn, read from the kernel, without a claim and without writing to it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, frozen

from cgworker.client import KernelClient
from cgworker.durable.children import CHILDREN_ROLE
from cgworker.durable.questions import ANSWER_ROLE
from cgworker.durable.steps import STEP_ROLE
from cgworker.errors import QuestionDeclined, UsageError
from cgworker.handlers import Handler
from cgworker.handlers.signature import HandlerFunction
from cgworker.outcome import Failed, Stopped, Succeeded, Suspended, word_for
from cgworker.stores import PrivateStore
from cgworker.testing.played import Played
from cgworker.testing.playing import Script, play_script
from cgworker.testing.scripted import ScriptedKernel
from cgworker.testing.scripted_turn import ScriptedTurn
from cgworker.wire.converter import unstructure, unstructure_plain
from cgworker.wire.records import MESSAGE_ROLE, SemanticItem
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot
from cgworker.worker import Worker, WorkerOptions

_OUTCOMES = {"succeeded": Succeeded, "failed": Failed, "stopped": Stopped}


@frozen
class ReplayResult:
    """The result of a turn: its outcome, or "suspended", and its payload, or the reason."""

    outcome: str
    payload: Any


@frozen
class Replayed:
    """A past turn, and the result of running the handler again."""

    turn: TurnSnapshot
    then: ReplayResult
    now: ReplayResult

    @property
    def same(self) -> bool:
        """True if both results are equal."""
        return self.then == self.now

    @property
    def difference(self) -> tuple[str, ...]:
        """The difference between both results, as lines of a diff."""
        then, now = (_lines(came) for came in (self.then, self.now))
        return tuple(difflib.unified_diff(then, now, "then", "now", lineterm=""))


async def replay(
    kernel: KernelClient,
    turn: TurnRef,
    handler: HandlerFunction | Handler | Worker,
    *,
    all_records: bool = False,
    private_store: PrivateStore | None = None,
    on_record: Callable[[str, Any], None] = lambda _role, _payload: None,
) -> Replayed:
    """Run a handler again on a closed turn, as its first attempt saw it.

    Its steps are not repeated, and its children and questions end as they did then.

    Args:
        kernel: reads the turn; nothing is written.
        turn: the closed turn.
        handler: a function as under `@worker.turn()`, any handler, or a worker.
        private_store: has the values of the turn's private steps, if its worker keeps them (`keep_private`);
            None is the store of the worker given. A value that is missing fails the handler.
        all_records: show the handler all records but the final one, as a later attempt would see them.
        on_record: called with the role and payload of each record that the handler would have appended.

    Raises:
        UsageError: the caller's fault: the turn is not closed, so that there is nothing to compare with.
        KernelRefused: the kernel refused to show the turn.
        KernelTrouble: the kernel gave no usable answer.
    """
    past = await kernel.turns.get(turn)
    if past.state != "closed":
        raise UsageError(f"{turn} is {past.state}: only a closed turn has a result to compare with")
    items = [item async for item in kernel.turns.records(turn)]
    script = Script(
        ScriptedKernel(_queued(past, items, all_records), on_record=on_record),
        await _children(kernel, turn, items),
        {item.payload["key"]: _answer_in(item.payload) for item in _of_role(items, ANSWER_ROLE)},
    )
    own = handler.options if isinstance(handler, Worker) else WorkerOptions()
    store = private_store or own.private_store
    options = evolve(own, private_store=store, on_private_missing="fail", keep_private=True)
    played = await play_script(handler, script, options=options)
    return Replayed(past, ReplayResult(past.outcome or "", past.final_payload), _came(played))


def _queued(past: TurnSnapshot, items: list[SemanticItem], all_records: bool) -> ScriptedTurn:
    """Return the turn as it was when dispatched, with the records that the handler needs."""
    turn = ScriptedTurn(
        turn_id=past.turn.turn_id,
        agent=past.target_agent,
        kind=past.turn_kind,
        spawn_key=past.spawn_key,
        cause=unstructure(past.cause),
        created_at=past.created_at,
    )
    for number, item in enumerate(items):
        role = item.record.record_role
        is_final = item.record.cardbox_ref == past.final_cardbox_ref
        is_scripted = role in (CHILDREN_ROLE, ANSWER_ROLE)
        if (
            number == 0
            or role in (STEP_ROLE, MESSAGE_ROLE)
            or (all_records and not is_final and not is_scripted)
        ):
            turn.add_record(item.payload, role)
    return turn


async def _children(kernel: KernelClient, turn: TurnRef, items: list[SemanticItem]) -> Mapping[str, Any]:
    """Return the results of the closed children, by name."""
    ended = {}
    for item in _of_role(items, CHILDREN_ROLE):
        for name, facts in item.payload["turns"].items():
            child = await kernel.turns.get(TurnRef(project_id=turn.project_id, turn_id=facts["turn_id"]))
            if child.outcome is not None:
                ended[name] = _OUTCOMES[child.outcome](child.final_payload)
    return ended


def _answer_in(content: Mapping[str, Any]) -> Any:
    """The answer that a record holds, or that its question was declined."""
    if "declined" in content:
        return QuestionDeclined(content["key"], content["declined"].get("reason"))
    return content["value"]


def _of_role(items: list[SemanticItem], role: str) -> list[SemanticItem]:
    return [item for item in items if item.record.record_role == role]


def _came(played: Played) -> ReplayResult:
    outcome = played.outcome
    if isinstance(outcome, Suspended):
        return ReplayResult("suspended", outcome.reason)
    return ReplayResult(word_for(outcome) if outcome else "", played.payload)


def _lines(result: ReplayResult) -> list[str]:
    shown = json.dumps(unstructure_plain(result.payload), indent=2, sort_keys=True, ensure_ascii=False)
    return [f"outcome: {result.outcome}", *shown.splitlines()]
