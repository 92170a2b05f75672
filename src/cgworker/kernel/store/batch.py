"""Many items in one statement: arrays go in, answers come out by place.

The statements of the busy verbs take arrays, so that a request for one and a request for many run the same
SQL, and requests that wait for each other can be run together. One statement changes a row at most once
and sees the database as it was when it began: items that meet in a row take turns, in rounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cgworker.errors import CommonGroundError, InvalidRequest
from cgworker.kernel.store.postgres import Row

Item = TypeVar("Item")
Good = TypeVar("Good")


def columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as the arrays that `unnest` makes rows of again."""
    return [list(column) for column in zip(*rows, strict=True)]


def keyed(rows: Iterable[Row]) -> dict[int, Row]:
    """Rows by their place."""
    return {row["place"]: row for row in rows}


Run = Callable[[list[Item]], Awaitable[list[Good | CommonGroundError]]]


async def in_rounds(
    items: Sequence[Item], keys_of: Callable[[Item], Iterable[Hashable]], run: Run[Item, Good]
) -> list[Good | CommonGroundError]:
    """Run the items as if one came after the other, as many at once as have no key in common.

    Returns:
        By place, the answer or the refusal.

    Raises:
        CommonGroundError: nothing was done. Trouble in a later round is the answer to its items.
    """
    answers: dict[int, Good | CommonGroundError] = {}
    for places in _rounds([frozenset(keys_of(item)) for item in items]):
        try:
            found = await _answers_of([items[place] for place in places], run)
        except CommonGroundError as trouble:
            if not answers:
                raise
            found = [trouble] * len(places)
        answers.update(zip(places, found, strict=True))
    return [answers[place] for place in range(len(items))]


async def _answers_of(items: list[Item], run: Run[Item, Good]) -> list[Good | CommonGroundError]:
    """One item that the database cannot hold refuses the whole statement: then each is tried alone."""
    try:
        return await run(items)
    except InvalidRequest as unfit:
        if len(items) == 1:
            return [unfit]
        return [await caught(_answer_of(item, run)) for item in items]


async def _answer_of(item: Item, run: Run[Item, Good]) -> Good:
    return only(await run([item]))


def _rounds(keys: Sequence[frozenset[Hashable]]) -> list[list[int]]:
    """The places of each round: an item comes in the first round after all that it meets."""
    rounds: list[list[int]] = []
    last_round: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        turn = 1 + max((last_round[key] for key in own if key in last_round), default=-1)
        last_round.update(dict.fromkeys(own, turn))
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(place)
    return rounds


async def by_place(
    items: Sequence[Item], good: Mapping[int, Good], otherwise: Callable[[Item], Awaitable[Good]]
) -> list[Good | CommonGroundError]:
    """The answers in order: what the statement gave by place, which counts from 1, or else what comes of it.

    A refusal is the answer to its own item and does not end the others.
    """
    return [
        good[place] if place in good else await caught(otherwise(item))
        for place, item in enumerate(items, start=1)
    ]


async def caught(work: Awaitable[Good]) -> Good | CommonGroundError:
    """What comes of one item of many; a refusal is returned."""
    try:
        return await work
    except CommonGroundError as refused:
        return refused


def only(answers: list[Good | CommonGroundError]) -> Good:
    """The answer to a single item; raised if it is a refusal."""
    (answer,) = answers
    if isinstance(answer, CommonGroundError):
        raise answer
    return answer
