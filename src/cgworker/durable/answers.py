"""Answers: find the open questions of suspended turns, and answer them from outside."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import aclosing
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.client import KernelClient
from cgworker.durable.contract import faults_of
from cgworker.durable.questions import (
    ANSWER_ROLE,
    QUESTION_ROLE,
    REFUSED_ROLE,
    TIMEOUT_ROLE,
    answer_in,
    key_of,
)
from cgworker.errors import ConflictError, FencingError, InvalidRequest, KernelTrouble, UsageError
from cgworker.retrying import Backoff, retry
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef

_MAX_TURNS = 500  # the largest page of a projection
_TRIES = 5


@frozen(kw_only=True)
class OpenQuestion:
    """A question that a suspended turn waits for.

    Attributes:
        turn: the turn that asks.
        agent: the agent that the turn is addressed to.
        key: the question's name within the turn.
        question: what is asked, as the handler worded it.
        schema: the JSON Schema of the answer.
        asked_at: when it was asked, by the kernel's clock.
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
    """Return the open questions of a project, oldest turn first.

    Only the 500 youngest suspended turns are read.

    Args:
        kernel: makes calls under any agent of the project.
        project_id: the project to read.
        agent_id: return only questions of turns addressed to this agent; None returns all.

    Raises:
        KernelRefused: the kernel refused a call.
        KernelTrouble: the kernel gave no usable answer.
    """
    page = await kernel.projections.turns(
        project_id, target_agent_id=agent_id, state="suspended", limit=_MAX_TURNS
    )
    found: list[OpenQuestion] = []
    for entry in reversed(page.items):
        found.extend(await questions_of(kernel, TurnRef(project_id=project_id, turn_id=entry.turn_id)))
    return tuple(found)


async def questions_of(kernel: KernelClient, turn: TurnRef) -> tuple[OpenQuestion, ...]:
    """Return the open questions of one turn; empty unless the turn is suspended.

    Args:
        kernel: makes calls under any agent of the project.
        turn: the turn to read.

    Raises:
        KernelRefused: the kernel refused a call.
        KernelTrouble: the kernel gave no usable answer.
    """
    snapshot = await kernel.turns.get(turn)
    if snapshot.state != "suspended":
        return ()
    asked: dict[str, OpenQuestion] = {}
    refused: set[str] = set()
    async for item in kernel.turns.records(turn):
        key, schema = key_of(item.payload), _schema_of(item.payload)
        if item.record.record_role == QUESTION_ROLE and isinstance(key, str) and schema is not None:
            asked[key] = OpenQuestion(
                turn=turn,
                agent=snapshot.target_agent,
                key=key,
                question=item.payload.get("question"),
                schema=schema,
                asked_at=item.record.created_at,
            )
        elif item.record.record_role in (ANSWER_ROLE, TIMEOUT_ROLE):
            asked.pop(str(key), None)
        elif item.record.record_role == REFUSED_ROLE and isinstance(item.payload, dict):
            refused.add(str(item.payload.get("ledger_seq")))
    given = await _answers_on_their_way(kernel, turn, refused) if asked else {}
    return tuple(each for each in asked.values() if not _ends(given.get(each.key, ()), each.schema))


def _schema_of(value: Any) -> Mapping[str, Any] | None:
    schema = value.get("schema") if isinstance(value, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


async def _answers_on_their_way(
    kernel: KernelClient, turn: TurnRef, refused: Set[str]
) -> dict[str, list[Any]]:
    """Return, by key, the answers that resumes carried, less those that an attempt has refused.

    `refused` holds the ledger numbers of the events whose answers a handler has refused.
    """
    given: dict[str, list[Any]] = {}
    async with aclosing(kernel.turns.events(turn)) as events:
        async for event in events:
            answer = answer_in(event)
            if isinstance(key := key_of(answer), str) and str(event.ledger_seq) not in refused:
                given.setdefault(key, []).append(answer)
    return given


def _ends(answers: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> bool:
    """Return True if an answer declines the question, or has a value that matches its schema."""
    try:
        return any(
            "declined" in answer or ("value" in answer and not faults_of(answer["value"], schema))
            for answer in answers
        )
    except UsageError:  # no answer matches a schema that cannot be used
        return False


async def answer_question(
    kernel: KernelClient,
    turn: TurnRef,
    value: Any,
    *,
    key: str | None = None,
    answer_id: str | None = None,
) -> str:
    """Answer a question of a suspended turn, and resume the turn.

    Args:
        kernel: makes calls under the turn's own agent, or an agent with the grant `turn.resume.any`.
        turn: the turn that asks.
        value: the answer, any JSON value that matches the question's schema.
        key: the question to answer; may be omitted if only one is open.
        answer_id: identifies the answer, so that sending it again has no effect; by default every call
            sends a new answer.

    Returns:
        The key of the question that was answered.

    Raises:
        ConflictError: there is no such open question, for instance because it has been answered.
        InvalidRequest: the answer does not match the schema; nothing was sent.
        FencingError: this agent may not answer for the turn's agent.
        UsageError: several questions are open and `key` does not say which one is meant, or `kernel` has no
            agent.
        KernelTrouble: the kernel gave no usable answer, several times.
    """

    def check(question: OpenQuestion) -> None:
        if faults := faults_of(value, question.schema):
            raise InvalidRequest(faults)

    return await _end_question(kernel, turn, {"value": value}, key, answer_id, check)


async def decline_question(
    kernel: KernelClient,
    turn: TurnRef,
    reason: str | None = None,
    *,
    key: str | None = None,
    answer_id: str | None = None,
) -> str:
    """Decline a question of a suspended turn, and resume the turn: its handler gets `QuestionDeclined`.

    Args:
        kernel: makes calls under the turn's own agent, or an agent with the grant `turn.resume.any`.
        turn: the turn that asks.
        reason: why, for people; public.
        key: the question to decline; may be omitted if only one is open.
        answer_id: identifies the call, so that making it again has no effect; by default each is a new one.

    Returns:
        The key of the question that was declined.

    Raises:
        ConflictError: there is no such open question, for instance because it has been answered.
        FencingError: this agent may not answer for the turn's agent.
        UsageError: several questions are open and `key` does not say which one is meant, or `kernel` has no
            agent.
        KernelTrouble: the kernel gave no usable answer, several times.
    """
    return await _end_question(kernel, turn, {"declined": {"reason": reason}}, key, answer_id)


async def _end_question(
    kernel: KernelClient,
    turn: TurnRef,
    ending: Mapping[str, Any],
    key: str | None,
    answer_id: str | None,
    check: Callable[[OpenQuestion], None] = lambda _: None,
) -> str:
    """Resume the turn with the answer to a question, or its refusal; return the question's key."""
    if answer_id is not None and (given := await _find_answer(kernel, turn, answer_id)) is not None:
        return str(given["key"])
    question = _choose(await questions_of(kernel, turn), turn, key)
    check(question)
    answer = {"key": question.key, **ending, "id": answer_id or uuid.uuid4().hex}
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
    """Resume the turn with the answer; if the kernel's reply is lost, look for the resume in its events."""
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
            answer = answer_in(event)
            if isinstance(answer, Mapping) and answer.get("id") == answer_id:
                return answer
    return None
