"""Answer a turn's questions with the resume entries of an AG-UI run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ag_ui.core import ResumeEntry

from cgworker.adapters.turn_watch import answer_each, until_answered
from cgworker.client import KernelClient
from cgworker.durable.answers import OpenQuestion, answer_question, decline_question, questions_of
from cgworker.durable.contract import faults_of
from cgworker.durable.questions import QUESTION_ROLE, key_of
from cgworker.errors import ConflictError, InvalidRequest, UsageError
from cgworker.wire.converter import dumps
from cgworker.wire.refs import TurnRef


def turn_id_in(entries: Sequence[ResumeEntry]) -> str:
    """Return the id of the turn that resume entries are for.

    Args:
        entries: the entries; at least one.

    Raises:
        UsageError: they are for several turns, or two are for one interrupt.
    """
    ids = [entry.interrupt_id for entry in entries]
    turns = {each.partition(":")[0] for each in ids}
    if len(set(ids)) < len(ids):
        raise UsageError("two resume entries are for one interrupt")
    if len(turns) > 1:
        raise UsageError("the resume entries are for several turns")
    return turns.pop()


async def resume_turn(kernel: KernelClient, turn: TurnRef, entries: Sequence[ResumeEntry]) -> int:
    """Answer the questions that the entries are for. Repeating it changes nothing.

    Args:
        kernel: makes the calls.
        turn: the turn.
        entries: the answers; a cancelled one declines its question.

    Returns:
        The number of the last record that the client has seen.

    Raises:
        InvalidRequest: an answer does not match its question's schema; nothing was sent.
        ConflictError: an entry is for a question that the turn never asked.
        KernelRefused: the kernel refused a call.
    """
    given = {entry.interrupt_id.partition(":")[2]: entry for entry in entries}
    questions = {each.key: each for each in await until_answered(lambda: questions_of(kernel, turn))}
    asked, last = await until_answered(lambda: _asked_in(kernel, turn))
    for key, entry in given.items():
        if key not in asked:
            raise ConflictError(f"the turn {turn.turn_id} has no question for the interrupt {key[:200]!r}")
        if key in questions:
            _check(entry, questions[key])

    async def answer(question: OpenQuestion) -> None:
        await until_answered(lambda: _answer(kernel, question, given[question.key]))

    await answer_each(kernel, turn, given.keys(), answer)
    return last if given.keys() & questions.keys() else max(asked[key] for key in given)


async def _asked_in(kernel: KernelClient, turn: TurnRef) -> tuple[dict[str, int], int]:
    """Return by key where the turn's questions stand among its records, and the number of the last record."""
    asked, last = {}, 0
    async for item in kernel.turns.records(turn):
        last = item.record.turn_seq
        if item.record.record_role == QUESTION_ROLE:
            asked[str(key_of(item.payload))] = last
    return asked, last


def _check(entry: ResumeEntry, question: OpenQuestion) -> None:
    if entry.status == "resolved" and (faults := faults_of(entry.payload, question.schema)):
        raise InvalidRequest(faults)


async def _answer(kernel: KernelClient, question: OpenQuestion, entry: ResumeEntry) -> None:
    facts = dumps([question.key, question.asked_at.isoformat(), entry.status, entry.payload])
    answer_id = f"ag-ui:{hashlib.sha256(facts).hexdigest()}"
    try:
        if entry.status == "resolved":
            await answer_question(kernel, question.turn, entry.payload, key=question.key, answer_id=answer_id)
        else:
            reason = entry.payload if isinstance(entry.payload, str) else None
            await decline_question(kernel, question.turn, reason, key=question.key, answer_id=answer_id)
    except ConflictError:
        pass  # somebody else was quicker
