"""Questions: what a turn asks of people or programs, and waits for without holding a slot.

A question is kept as a record of role `question`, `{"key", "question", "schema"}`, and the turn is suspended
with reason `await_answer`. A suspended turn takes no records, so an answer travels in the resume that it
comes with, `meta.annotations = {"answer": {"key": ..., "value": ...}}`; the kernel keeps it in the event
`turn.resumed`. At the next claim it becomes a record of role `answer`, or of role `answer_refused` if it does
not fit the schema; then the turn is suspended again.

A handler may ask several questions at once, in a task group. Then all of them are asked, and every answer
that came is kept, before the turn is suspended; the `keys` in `await_answer` are those that wait.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Set
from contextlib import aclosing
from datetime import datetime
from typing import Any

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.durable.contract import check_contract, fault_of_trouble, faults_of
from cgworker.durable.journal import Journal
from cgworker.errors import ConflictError, FencingError, InvalidRequest, KernelTrouble, UsageError
from cgworker.outcome import AWAIT_ANSWER_REASON, Suspended, Suspending
from cgworker.retrying import Backoff, retry
from cgworker.wire.converter import ABSENT, dumps, loads, structure_plain, unstructure_plain
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.schemas import json_schema

QUESTION_ROLE = "question"
ANSWER_ROLE = "answer"
REFUSED_ROLE = "answer_refused"

_MOST_TURNS = 500  # what a projection gives
_TRIES = 5


# ---------------------------------------------------------------- asking, inside a handler


class Questions:
    """The questions of one turn."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._under_way_count = 0
        self._none_under_way = anyio.Event()
        self._finding = anyio.Lock()
        self._waiting: dict[str, str | None] = {}

    async def ask(self, schema: Any, question: Any, key: str) -> Any:
        """The answer, or the turn is suspended until there is one; see `Turn.ask`."""
        if not self._under_way_count:
            self._none_under_way = anyio.Event()
        self._under_way_count += 1
        try:
            async with self._finding:  # the same question in two tasks is still one question
                answer = await self._find(schema, question, key)
        finally:
            self._under_way_count -= 1
            if not self._under_way_count:
                self._none_under_way.set()
        if answer is not ABSENT:
            return answer
        self._waiting[key] = question if isinstance(question, str) else None
        await self._let_others_ask()
        raise Suspending(self._suspended())

    async def _let_others_ask(self) -> None:
        """What unwinds this task ends those beside it: none of them may be in the middle of a question."""
        while self._under_way_count:
            await self._none_under_way.wait()

    def _suspended(self) -> Suspended:
        keys = list(self._waiting)
        several = {"keys": keys} if len(keys) > 1 else {}
        note = next(iter(self._waiting.values()))
        return Suspended(AWAIT_ANSWER_REASON, note, {"await_answer": {"key": keys[0], **several}})

    async def _find(self, schema: Any, question: Any, key: str) -> Any:
        """The answer; ABSENT if there is none, and the question is then asked."""
        contract = dict(schema) if isinstance(schema, Mapping) else json_schema(schema)
        check_contract(contract)
        returns = Any if isinstance(schema, Mapping) else schema
        question = loads(dumps(unstructure_plain(question)))  # as its record gives it back
        asked = await self._last(QUESTION_ROLE, key)
        if asked is not None and asked.get("question") != question:  # its answer would be to something else
            raise UsageError(
                f"{key!r} is the key of another question of {self._journal.turn} already: "
                "another question needs another key, and the same one the same words"
            )
        if (kept := await self._last(ANSWER_ROLE, key)) is not None:
            return structure_plain(returns, kept["value"])
        if asked is None or asked.get("schema") != contract:
            await self._journal.append({"key": key, "question": question, "schema": contract}, QUESTION_ROLE)
        for event in await self._new_answers(key) if asked else ():
            value, faults = _read_answer(event, contract, returns)
            await self._keep(event, key, faults)
            if not faults:
                return value
        return ABSENT

    async def _last(self, role: str, key: str) -> dict[str, Any] | None:
        found = [item.payload for item in await self._journal.records(role)]
        return next((each for each in reversed(found) if _key_of(each) == key), None)

    async def _new_answers(self, key: str) -> list[LedgerEvent]:
        """The answers to this question that no attempt has looked at yet, oldest first."""
        refused = [item.payload for item in await self._journal.records(REFUSED_ROLE)]
        seen = {each.get("ledger_seq") for each in refused if isinstance(each, dict)}
        return [
            event
            for event in await self._journal.events()
            if _key_of(answer_in(event)) == key and event.ledger_seq not in seen
        ]

    async def _keep(self, event: LedgerEvent, key: str, faults: list[dict[str, Any]]) -> None:
        """Make the answer a record, or say in one why it cannot be used."""
        source = {"key": key, "answered_by": event.actor_id, "ledger_seq": event.ledger_seq}
        if faults:
            await self._journal.append({**source, "faults": faults}, REFUSED_ROLE)
        else:
            await self._journal.append({**source, "value": _value_in(event)}, ANSWER_ROLE)


def answer_in(event: LedgerEvent) -> Any:
    """The answer that came with a resume; None for any other event."""
    caller = event.annotations.get("caller")
    said = caller.get("annotations") if isinstance(caller, Mapping) else None
    is_resume = event.event_type == "turn.resumed" and isinstance(said, Mapping)
    return said.get("answer") if is_resume and said else None


def _key_of(said: Any) -> Any:
    return said.get("key") if isinstance(said, Mapping) else None


def _schema_of(said: Any) -> Mapping[str, Any] | None:
    schema = said.get("schema") if isinstance(said, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def _value_in(event: LedgerEvent) -> Any:
    return answer_in(event).get("value")


def _read_answer(
    event: LedgerEvent, contract: Mapping[str, Any], returns: Any
) -> tuple[Any, list[dict[str, Any]]]:
    """The answer as the handler gets it, or what is wrong with it."""
    value = _value_in(event)
    if faults := faults_of(value, contract):
        return None, faults
    try:
        return structure_plain(returns, value), []
    except InvalidRequest as unreadable:
        return None, [dict(fault) for fault in unreadable.faults]
    except Exception as unreadable:  # what a class of the handler's raises, or arithmetic
        return None, [fault_of_trouble(unreadable)]


# ---------------------------------------------------------------- answering, from outside


@frozen(kw_only=True)
class OpenQuestion:
    """A question that a suspended turn waits for.

    Attributes:
        turn: whose question it is.
        agent: the agent it is addressed to.
        key: its name within the turn.
        question: what is asked, in the words of the handler.
        schema: the JSON Schema of the answer.
        asked_at: when it was asked.
    """

    turn: TurnRef
    agent: AgentRef
    key: str
    question: Any
    schema: Mapping[str, Any]
    asked_at: datetime


async def open_questions(
    kernel: KernelClient, project_id: str, *, agent_id: str | None = None
) -> tuple[OpenQuestion, ...]:
    """The questions that turns of the project wait for; of its 500 youngest suspended turns, oldest first.

    Args:
        kernel: calls under any agent of the project.
        project_id: whose turns.
        agent_id: only of turns addressed to this agent.
    """
    page = await kernel.projections.turns(
        project_id, target_agent_id=agent_id, state="suspended", limit=_MOST_TURNS
    )
    found: list[OpenQuestion] = []
    for entry in reversed(page.items):
        found.extend(await questions_of(kernel, TurnRef(project_id=project_id, turn_id=entry.turn_id)))
    return tuple(found)


async def questions_of(kernel: KernelClient, turn: TurnRef) -> tuple[OpenQuestion, ...]:
    """The open questions of one turn; none unless it is suspended."""
    snapshot = await kernel.turns.get(turn)
    if snapshot.state != "suspended":
        return ()
    asked: dict[str, OpenQuestion] = {}
    refused: set[str] = set()
    async for item in kernel.turns.records(turn):
        key, schema = _key_of(item.payload), _schema_of(item.payload)
        if item.record.record_role == QUESTION_ROLE and isinstance(key, str) and schema is not None:
            asked[key] = OpenQuestion(
                turn=turn,
                agent=snapshot.target_agent,
                key=key,
                question=item.payload.get("question"),
                schema=schema,
                asked_at=item.record.created_at,
            )
        elif item.record.record_role == ANSWER_ROLE:
            asked.pop(str(key), None)
        elif item.record.record_role == REFUSED_ROLE and isinstance(item.payload, dict):
            refused.add(str(item.payload.get("ledger_seq")))
    given = await _answers_on_their_way(kernel, turn, refused) if asked else {}
    return tuple(each for each in asked.values() if not _fits(given.get(each.key, ()), each.schema))


async def _answers_on_their_way(
    kernel: KernelClient, turn: TurnRef, refused: Set[str]
) -> dict[str, list[Any]]:
    """By key, what came with resumes: an attempt that was cut short has not made records of it yet.

    Args:
        refused: the events whose answers a handler has refused.
    """
    given: dict[str, list[Any]] = {}
    async with aclosing(kernel.turns.events(turn)) as events:
        async for event in events:
            answer = answer_in(event)
            if (
                isinstance(key := _key_of(answer), str)
                and "value" in answer
                and str(event.ledger_seq) not in refused
            ):
                given.setdefault(key, []).append(answer["value"])
    return given


def _fits(answers: Iterable[Any], schema: Mapping[str, Any]) -> bool:
    try:
        return any(not faults_of(answer, schema) for answer in answers)
    except UsageError:  # a schema that cannot be used has no answer
        return False


async def answer_question(
    kernel: KernelClient,
    turn: TurnRef,
    value: Any,
    *,
    key: str | None = None,
    answer_id: str | None = None,
) -> str:
    """Answer a question of a suspended turn, and have the turn go on.

    Args:
        kernel: calls under the turn's own agent, or one that holds the grant `turn.resume.any`.
        turn: whose question.
        value: the answer, any JSON value that fits the question's schema.
        key: which question; may be left out where only one is open.
        answer_id: names the answer, so that giving it again does nothing; by default each is a new one.

    Returns:
        The key of the question answered.

    Raises:
        ConflictError: there is no such open question, for instance because it has been answered.
        InvalidRequest: the answer does not fit the schema; nothing was sent.
        FencingError: this agent may not answer for that one.
        UsageError: several questions are open and `key` does not say which one is meant.
    """
    if answer_id is not None and (given := await _find_answer(kernel, turn, answer_id)) is not None:
        return str(given["key"])
    question = _choose(await questions_of(kernel, turn), turn, key)
    if faults := faults_of(value, question.schema):
        raise InvalidRequest(faults)
    answer = {"key": question.key, "value": value, "id": answer_id or uuid.uuid4().hex}
    try:
        await _deliver(kernel, turn, answer)
    except FencingError as refused:
        raise FencingError(
            f"{refused}: only {question.agent.agent_id} itself, or an agent with the grant turn.resume.any, "
            f"may answer for it"
        ) from refused
    return question.key


def _choose(questions: tuple[OpenQuestion, ...], turn: TurnRef, key: str | None) -> OpenQuestion:
    found = [question for question in questions if key is None or question.key == key]
    if not found:
        which = "no open question" if key is None else f"no open question {key!r}"
        raise ConflictError(f"{turn.turn_id} has {which}: it was answered already, or was not asked yet")
    if len(found) > 1:
        keys = ", ".join(repr(question.key) for question in found)
        raise UsageError(f"{turn.turn_id} has several open questions, say which one is meant: {keys}")
    return found[0]


async def _deliver(kernel: KernelClient, turn: TurnRef, answer: Mapping[str, Any]) -> None:
    """Resume with the answer; where the kernel's answer is lost, the turn's events tell what came of it."""
    if kernel.agent is None:
        raise UsageError(
            "answering needs a kernel client with an agent: KernelClient(url, agent=..., token=...)"
        )
    agent, meta = kernel.agent, Meta(annotations={"answer": answer})

    async def resume() -> None:
        try:
            await kernel.turns.resume(turn, requested_by=agent, meta=meta)
        except (ConflictError, KernelTrouble):
            if await _find_answer(kernel, turn, answer["id"]) is None:
                raise

    await retry(resume, on=KernelTrouble, backoff=Backoff(0.2, 5.0), attempts=_TRIES)


async def _find_answer(kernel: KernelClient, turn: TurnRef, answer_id: str) -> Mapping[str, Any] | None:
    async with aclosing(kernel.turns.events(turn)) as events:
        async for event in events:
            said = answer_in(event)
            if isinstance(said, Mapping) and said.get("id") == answer_id:
                return said
    return None
