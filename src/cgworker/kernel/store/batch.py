"""Many items in one statement: arrays go in, answers come out by place.

The statements of the busy verbs take arrays, so that a request for one and a request for many run the same
SQL, and requests that wait for each other can be run together. One statement changes a row at most once
and sees the database as it was when it began: items that meet in a row take turns, in rounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import frozen

from cgworker.errors import CommonGroundError, InvalidRequest
from cgworker.kernel.store.postgres.database import Row

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


def columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as the arrays that `unnest` makes rows of again."""
    return [list(column) for column in zip(*rows, strict=True)]


def rows_by_place(rows: Iterable[Row]) -> dict[int, Row]:
    """Rows by their place."""
    return {row["place"]: row for row in rows}


@frozen
class Deferred(Generic[Result_co]):
    """An answer that needs more statements: a repeat, or why something is refused.

    Whoever is in no hurry for it asks for it after the others have been answered.
    """

    resolve: Callable[[], Awaitable[Result_co]]


Answer: TypeAlias = Result | CommonGroundError | Deferred[Result]
Answers: TypeAlias = list[Answer[Result]]
Run: TypeAlias = Callable[[list[Item]], Awaitable[Answers[Result]]]


async def in_rounds(
    items: Sequence[Item], keys_of: Callable[[Item], Iterable[Hashable]], run: Run[Item, Result]
) -> Answers[Result]:
    """Run the items as if one came after the other, as many at once as have no key in common.

    Returns:
        By place, the answer, the refusal, or what has to be asked for it.

    Raises:
        CommonGroundError: nothing was done. Trouble in a later round is the answer to its items.
    """
    rounds = _rounds([frozenset(keys_of(item)) for item in items])
    answers: dict[int, Answer[Result]] = {}
    for places in rounds:
        try:
            found = await _answers_of([items[place] for place in places], run)
        except CommonGroundError as trouble:
            if not answers:
                raise
            found = [trouble] * len(places)
        if len(rounds) > 1:  # the next round must find what comes of this one
            found = [*await resolve_all(found)]
        answers.update(zip(places, found, strict=True))
    return [answers[place] for place in range(len(items))]


async def _answers_of(items: list[Item], run: Run[Item, Result]) -> Answers[Result]:
    """One item that the database cannot hold refuses the whole statement: then each is tried alone."""
    try:
        return await run(items)
    except InvalidRequest as unfit:
        if len(items) == 1:
            return [unfit]
        return [await _alone(item, run) for item in items]


async def _alone(item: Item, run: Run[Item, Result]) -> Answer[Result]:
    try:
        (answer,) = await run([item])
    except CommonGroundError as refused:
        return refused
    return answer


def _rounds(keys: Sequence[frozenset[Hashable]]) -> list[list[int]]:
    """The places of each round: an item comes in the first round after all those that it conflicts with."""
    rounds: list[list[int]] = []
    last_round: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        turn = 1 + max((last_round[key] for key in own if key in last_round), default=-1)
        last_round.update(dict.fromkeys(own, turn))
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(place)
    return rounds


def by_place(
    items: Sequence[Item], good: Mapping[int, Result], otherwise: Callable[[Item], Awaitable[Result]]
) -> Answers[Result]:
    """The answers in order: what the statement gave by place, which counts from 1, or else what to ask.

    A refusal is the answer to its own item and does not end the others.
    """
    return [
        good[place] if place in good else Deferred(partial(otherwise, item))
        for place, item in enumerate(items, start=1)
    ]


async def resolve_all(answers: Sequence[Answer[Result]]) -> list[Result | CommonGroundError]:
    """The answers when nothing is left to be asked."""
    return [await _resolved(answer) for answer in answers]


async def _resolved(answer: Answer[Result]) -> Result | CommonGroundError:
    if not isinstance(answer, Deferred):
        return answer
    try:
        return await answer.resolve()
    except CommonGroundError as refused:
        return refused


def single(answers: list[Result | CommonGroundError]) -> Result:
    """The answer to a single item; raised if it is a refusal."""
    (answer,) = answers
    if isinstance(answer, CommonGroundError):
        raise answer
    return answer
