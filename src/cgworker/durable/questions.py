"""Questions: a turn asks people or programs, and waits for answers without holding a slot.

A question is stored as a record of role `question`, `{"key", "question", "schema"}`, and the turn is
suspended with reason `await_answer`. A suspended turn takes no records, so the answer travels in the call
that resumes the turn, as `meta.annotations = {"answer": {"key": ..., "value": ...}}`; the kernel stores it
in the event `turn.resumed`. At the next claim the worker makes it a record of role `answer`, or of role
`answer_refused` if it does not match the schema; in that case the turn is suspended again.

A handler may ask several questions at once, in a task group. All of them are asked, and all answers that
arrived are stored, before the turn is suspended; the `keys` in `await_answer` are those still open.

A question can be declined: in the resume and in the record, the answer then has `declined`, an object with a
`reason`, in place of `value`.

A question can have a time limit. When that is over without an answer, a record of role `answer_timeout` says
so; it counts for all attempts, and an answer that comes later is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from attrs import frozen

from cgworker.durable.contract import check_contract, fault_of_trouble, faults_of
from cgworker.durable.journal import Journal
from cgworker.durable.waits import Waits, check_seconds
from cgworker.errors import AnswerTimeout, InvalidRequest, QuestionDeclined, UsageError
from cgworker.outcome import AWAIT_ANSWER_REASON, Suspended, Suspending
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads, structure_plain, unstructure_plain
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.schemas import json_schema

QUESTION_ROLE = "question"
ANSWER_ROLE = "answer"
REFUSED_ROLE = "answer_refused"
TIMEOUT_ROLE = "answer_timeout"


@frozen
class Question:
    """One of several questions for `turn.ask_all`.

    Attributes:
        schema: the type of the answer, or a JSON Schema as a dict, as for `turn.ask`.
        question: what is asked, any JSON value; public.
        timeout_seconds: how long to wait for an answer, as for `turn.ask`; None waits for ever.
    """

    schema: Any
    question: Any
    timeout_seconds: float | None = None


class Questions:
    """The questions of one turn.

    Args:
        journal: the turn's records and events.
        waits: what else the turn waits for.
    """

    def __init__(self, journal: Journal, waits: Waits) -> None:
        self._journal = journal
        self._waits = waits
        self._finding = anyio.Lock()
        self._waiting: dict[str, str | None] = {}

    async def ask_all(self, wanted: Mapping[str, Question], first: int | None) -> dict[str, Any]:
        """Return answers by key, or suspend the turn until there are enough; see `Turn.ask_all`.

        Args:
            wanted: the questions by key.
            first: how many answers are enough; None means all.

        Returns:
            The answers that were enough, the same ones each time.

        Raises:
            Suspending: there are not enough answers yet; the worker suspends the turn.
            QuestionDeclined, AnswerTimeout: so many questions ended without an answer that there cannot be
                enough.
            UsageError: `first` cannot be met, a schema cannot be used, or a key belongs to another question.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a call, for instance because the claim is no longer ours.
        """
        needed = len(wanted) if first is None else first
        if not 0 <= needed <= len(wanted) or (first is not None and first < 1):
            raise UsageError(f"first={first} of {len(wanted)} questions: it takes 1 to {len(wanted)}")
        for each in wanted.values():
            if each.timeout_seconds is not None:
                check_seconds(each.timeout_seconds, "the wait for an answer")
        found, ended = await self._find_all(wanted)
        if len(found) >= needed:
            return await self._earliest(found, needed)
        if len(wanted) - len(ended) < needed:
            raise await self._first(ended)
        for key, each in wanted.items():
            if key not in found and key not in {gone.key for gone in ended}:
                self._waiting[key] = each.question if isinstance(each.question, str) else None
        await self._waits.until_all_entered()
        raise Suspending(self._suspended())

    async def _find_all(
        self, wanted: Mapping[str, Question]
    ) -> tuple[dict[str, Any], list[QuestionDeclined | AnswerTimeout]]:
        """Ask what is not asked yet; return the answers by key, and how others ended without one."""
        found: dict[str, Any] = {}
        ended: list[QuestionDeclined | AnswerTimeout] = []
        async with self._waits.entering(), self._finding:  # two tasks may ask the same question
            for key, each in wanted.items():
                try:
                    answer = await self._find(each.schema, each.question, key)
                    if answer is ABSENT and each.timeout_seconds is not None:
                        await self._bound(key, each.timeout_seconds)
                except (QuestionDeclined, AnswerTimeout) as over:
                    ended.append(over)
                else:
                    found |= {} if answer is ABSENT else {key: answer}
        return found, ended

    async def _earliest(self, found: Mapping[str, Any], count: int) -> dict[str, Any]:
        """Return the `count` answers that were stored first: more may have come since."""
        stored = [key_of(item.payload) for item in await self._journal.records(ANSWER_ROLE)]
        chosen = sorted(found, key=stored.index)[:count]
        return {key: found[key] for key in found if key in chosen}

    async def _first(self, ended: list[QuestionDeclined | AnswerTimeout]) -> Exception:
        """Return the end that was stored first: another question's time may be over since."""
        stored = [*await self._journal.records(ANSWER_ROLE), *await self._journal.records(TIMEOUT_ROLE)]
        place = {key_of(item.payload): item.record.turn_seq for item in stored}
        return min(ended, key=lambda each: place[each.key])

    async def _bound(self, key: str, timeout_seconds: float) -> None:
        """Resume the turn when the time for the answer is over; raise AnswerTimeout if it is over already."""
        asked = [item for item in await self._journal.records(QUESTION_ROLE) if key_of(item.payload) == key]
        seconds = await self._waits.seconds_left(asked[0].record.created_at, timeout_seconds)
        if seconds > 0:
            self._waits.wake_after(seconds)
            return
        await self._journal.append({"key": key}, TIMEOUT_ROLE)
        raise AnswerTimeout(key)

    def _suspended(self) -> Suspended:
        keys = list(self._waiting)
        several = {"keys": keys} if len(keys) > 1 else {}
        note = next(iter(self._waiting.values()))
        return Suspended(AWAIT_ANSWER_REASON, note, {"await_answer": {"key": keys[0], **several}})

    async def _find(self, schema: Any, question: Any, key: str) -> Any:
        """Return the answer; if there is none, make sure that the question is asked and return ABSENT."""
        contract = dict(schema) if isinstance(schema, Mapping) else json_schema(schema)
        check_contract(contract)
        returns = Any if isinstance(schema, Mapping) else schema
        question = loads(dumps(unstructure_plain(question)))  # in the form in which its record returns it
        asked = await self._last(QUESTION_ROLE, key)
        if asked is not None and asked.get("question") != question:  # its answer would not fit this one
            raise UsageError(
                f"{key!r} is the key of another question of {self._journal.turn} already: "
                "another question needs another key, and a question that is asked again the same words"
            )
        if (kept := await self._last(ANSWER_ROLE, key)) is not None:
            if "declined" in kept:
                raise QuestionDeclined(key, _reason_in(kept))
            return structure_plain(returns, kept["value"])
        if await self._last(TIMEOUT_ROLE, key) is not None:
            raise AnswerTimeout(key)
        if asked is None or asked.get("schema") != contract:
            await self._journal.append({"key": key, "question": question, "schema": contract}, QUESTION_ROLE)
        for event in await self._new_answers(key) if asked else ():
            if "declined" in answer_in(event):
                await self._keep(event, key, [])
                raise QuestionDeclined(key, _reason_in(answer_in(event)))
            value, faults = _read_answer(event, contract, returns)
            await self._keep(event, key, faults)
            if not faults:
                return value
        return ABSENT

    async def _last(self, role: str, key: str) -> dict[str, Any] | None:
        found = [item.payload for item in await self._journal.records(role)]
        return next((each for each in reversed(found) if key_of(each) == key), None)

    async def _new_answers(self, key: str) -> list[LedgerEvent]:
        """Return the answers to this question that no attempt has refused yet, oldest first."""
        refused = [item.payload for item in await self._journal.records(REFUSED_ROLE)]
        seen = {each.get("ledger_seq") for each in refused if isinstance(each, dict)}
        return [
            event
            for event in await self._journal.events()
            if key_of(answer_in(event)) == key and event.ledger_seq not in seen
        ]

    async def _keep(self, event: LedgerEvent, key: str, faults: list[dict[str, Any]]) -> None:
        """Store the answer as a record, or store the reasons why it was refused."""
        source = {"key": key, "answered_by": event.actor_id, "ledger_seq": event.ledger_seq}
        if faults:
            await self._journal.append({**source, "faults": faults}, REFUSED_ROLE)
        elif "declined" in answer_in(event):
            declined = {"reason": _reason_in(answer_in(event))}
            await self._journal.append({**source, "declined": declined}, ANSWER_ROLE)
        else:
            await self._journal.append({**source, "value": _value_in(event)}, ANSWER_ROLE)


def answer_in(event: LedgerEvent) -> Any:
    """Return the answer that a resume carried; None for any other event.

    Args:
        event: an event of the turn.
    """
    caller = event.annotations.get("caller")
    annotations = caller.get("annotations") if isinstance(caller, Mapping) else None
    is_resume = event.event_type == "turn.resumed" and isinstance(annotations, Mapping)
    return annotations.get("answer") if is_resume and annotations else None


def key_of(value: Any) -> Any:
    """Return the key in a question or an answer; None if it has none.

    Args:
        value: the JSON value of a record or annotation.
    """
    return value.get("key") if isinstance(value, Mapping) else None


def _reason_in(answer: Mapping[str, Any]) -> str | None:
    """Return why a question was declined; None if nobody said."""
    declined = answer["declined"]
    reason = declined.get("reason") if isinstance(declined, Mapping) else None
    return reason if isinstance(reason, str) else None


def _value_in(event: LedgerEvent) -> Any:
    return answer_in(event).get("value")


def _read_answer(
    event: LedgerEvent, contract: Mapping[str, Any], returns: Any
) -> tuple[Any, list[dict[str, Any]]]:
    """Return the answer as the handler gets it and no faults, or None and its faults."""
    value = _value_in(event)
    if faults := faults_of(value, contract):
        return None, faults
    try:
        return structure_plain(returns, value), []
    except InvalidRequest as unreadable:
        return None, [dict(fault) for fault in unreadable.faults]
    except Exception as unreadable:  # raised by a class of the handler, or by arithmetic
        return None, [fault_of_trouble(unreadable)]
