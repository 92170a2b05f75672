"""Run many items in one statement: arrays go in, answers come out by place.

The statements of the frequent operations take arrays. A request for one item and a request for many run the
same SQL, and waiting requests can share a statement. A statement changes a row at most once, and sees the
database as it was when the statement began. Items that conflict in a row therefore run in successive rounds.
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
    """Transpose rows into the arrays that `unnest` turns into rows again."""
    return [*map(list, zip(*rows, strict=True))]


def rows_by_place(rows: Iterable[Row]) -> dict[int, Row]:
    """Return the rows by their `place`."""
    return {row["place"]: row for row in rows}


@frozen
class Deferred(Generic[Result_co]):
    """An answer that needs more statements, such as a repeat or the reason for a refusal.

    It is resolved after the other items of its statement have been answered, so that they do not wait.

    Attributes:
        resolve: runs the statements; returns the answer or raises the refusal.
    """

    resolve: Callable[[], Awaitable[Result_co]]


Answer: TypeAlias = Result | CommonGroundError | Deferred[Result]
Answers: TypeAlias = list[Answer[Result]]
Run: TypeAlias = Callable[[list[Item]], Awaitable[Answers[Result]]]


async def in_rounds(
    items: Sequence[Item], keys_of: Callable[[Item], Iterable[Hashable]], run: Run[Item, Result]
) -> Answers[Result]:
    """Run the items as if one after the other, but run items without a common key together.

    Args:
        items: the items, in the order in which they arrived.
        keys_of: returns the keys by which items conflict.
        run: runs items without a common key in one statement.

    Returns:
        By place, the answer, the refusal, or the deferred answer.

    Raises:
        CommonGroundError: the first round failed, and nothing was done. An error of a later round is the
            answer to the items of that round.
    """
    if len(items) == 1:
        try:
            return await run([*items])
        except InvalidRequest as unfit:
            return [unfit]
    rounds = _rounds([frozenset(keys_of(item)) for item in items])
    answers: dict[int, Answer[Result]] = {}
    for places in rounds:
        try:
            found = await _answers_of([items[place] for place in places], run)
        except CommonGroundError as trouble:
            if not answers:
                raise
            found = [trouble] * len(places)
        if len(rounds) > 1:  # the next round must see the effects of this one
            found = [*await resolve_all(found)]
        answers.update(zip(places, found, strict=True))
    return [answers[place] for place in range(len(items))]


async def _answers_of(items: list[Item], run: Run[Item, Result]) -> Answers[Result]:
    """Run the items; if the database cannot hold a value of one of them, run each item alone."""
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
    """Return the places of each round: an item runs in the first round after those that it conflicts with."""
    if sum(map(len, keys)) == len(frozenset().union(*keys)):  # no two items conflict, as nearly always
        return [[*range(len(keys))]] if keys else []
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
    """Return the answers in order.

    Args:
        items: the items of the statement.
        good: the answers that the statement gave, by place, counted from 1.
        otherwise: gives the answer, or raises the refusal, of an item without one; it is deferred.
    """
    return [
        good[place] if place in good else Deferred(partial(otherwise, item))
        for place, item in enumerate(items, start=1)
    ]


async def resolve_all(answers: Sequence[Answer[Result]]) -> list[Result | CommonGroundError]:
    """Resolve the deferred answers; a refusal is returned in its place."""
    return [await _resolved(answer) for answer in answers]


async def _resolved(answer: Answer[Result]) -> Result | CommonGroundError:
    if not isinstance(answer, Deferred):
        return answer
    try:
        return await answer.resolve()
    except CommonGroundError as refused:
        return refused


def single(answers: list[Result | CommonGroundError]) -> Result:
    """Return the answer of a single item, or raise it if it is a refusal."""
    (answer,) = answers
    if isinstance(answer, CommonGroundError):
        raise answer
    return answer
