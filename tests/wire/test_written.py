"""A user's own values have one JSON, wherever they stand, and are read back from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import jsonschema
import pytest

from cgworker.errors import InvalidRequest
from cgworker.wire.converter import check_json, dumps, loads, structure_plain, unstructure_plain
from cgworker.wire.refs import TurnRef
from cgworker.wire.schemas import json_schema


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    LARGE = "large"


@dataclasses.dataclass
class Item:
    name: str
    _cost: int = 0
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    _id: int
    big: int = 2**70


@attrs.define
class Base:
    number: int


@attrs.define
class Derived(Base):
    _more: int = 2
    made: int = attrs.field(default=3, init=False)


@attrs.define
class Holder:
    one: Base
    many: list[Base]
    by: dict[str, Item]


class Pair(NamedTuple):
    item: Item
    times: int = 1


class Named(TypedDict):
    item: Item


def an_item() -> Item:
    item = Item("pen", 7)
    item.seen = 9
    vars(item)["cached"] = "no field"
    return item


ITEM = {"name": "pen", "_cost": 7, "seen": 9}
DERIVED = {"number": 1, "_more": 2, "made": 3}
INSTANT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
SPELLED = [
    (an_item(), ITEM),
    (Slotted(1), {"_id": 1, "big": 2**70}),
    (Derived(1), DERIVED),
    (
        Holder(Derived(1), [Derived(1)], {"a": an_item()}),
        {"one": DERIVED, "many": [DERIVED], "by": {"a": ITEM}},
    ),
    (Pair(an_item()), [ITEM, 1]),
    (Named(item=an_item()), {"item": ITEM}),
    (MappingProxyType({"a": an_item()}), {"a": ITEM}),
    (TurnRef(project_id="p", turn_id="T-1"), {"project_id": "p", "turn_id": "T-1"}),
    (Colour.RED, "red"),
    ({Colour.RED: 1, Size.LARGE: 2}, {"red": 1, "large": 2}),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (INSTANT, "2026-11-28T09:30:00+00:00"),
    (date(2026, 11, 28), "2026-11-28"),
    (time(9, 30), "09:30:00"),
    ((1, (an_item(),)), [1, [ITEM]]),
]
PLACES: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"at": value},
    lambda value: {"deep": [{"at": (value, [value])}]},
    lambda value: Pair(value),
    lambda value: Item(value),
    lambda value: {"in": Derived(value)},
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize(("value", "spelled"), SPELLED, ids=lambda case: type(case).__name__)
def test_a_value_has_the_same_json_wherever_it_stands(
    value: Any, spelled: Any, place: Callable[[Any], Any]
) -> None:
    """All fields of a class and nothing else, private ones and those of a subclass too."""
    expected = unstructure_plain(place(spelled))
    check_json(place(value))
    assert unstructure_plain(place(value)) == expected
    if not isinstance(value, dict | MappingProxyType):  # `dumps` is for what is JSON but for its classes
        assert loads(dumps(place(value))) == expected


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1, 2}, TypeError),
        (frozenset(), TypeError),
        (b"bytes", TypeError),
        pytest.param(object(), TypeError, id="object"),
        ({1: "one"}, TypeError),
        (float("nan"), ValueError),
        (Item("pen", float("inf")), ValueError),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_what_is_not_json_is_refused_wherever_it_stands(
    value: Any, error: type[Exception], place: Callable[[Any], Any]
) -> None:
    """A set has no order, and null is not what NaN meant."""
    with pytest.raises(error):
        check_json(place(value))


def test_a_value_that_contains_itself_is_refused_with_a_sentence() -> None:
    """Not with a RecursionError."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="contains itself"):
        check_json(endless)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[str, Item], {"a": Item("pen", 7)}),
        (list[Item], [Item("pen", 7)]),
        (tuple[Item, int, str], (Item("pen", 7), 1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (Pair, Pair(Item("pen", 7), 2)),
        (dict[str, Pair], {"a": Pair(Item("pen", 7))}),
        (Named, Named(item=Item("pen", 7))),
        (dict[Colour, int], {Colour.RED: 1}),
        (Slotted, Slotted(1)),
    ],
    ids=str,
)
def test_what_was_written_is_read_back(kind: Any, value: Any) -> None:
    """As a later attempt reads a step."""
    assert structure_plain(kind, loads(dumps(unstructure_plain(value)))) == value


@pytest.mark.parametrize(
    ("kind", "fits", "does_not_fit"),
    [
        (tuple[int, str], [1, "a"], [[1], ["a", 1], [1, "a", 2], "1a"]),
        (tuple[()], [], [[1]]),
        (Pair, [{"name": "pen"}, 2], [[], [{"name": "pen"}, "2"], {"item": {"name": "pen"}}]),
        (Pair, [{"name": "pen"}], [[{"name": 5}]]),
    ],
    ids=str,
)
def test_the_items_of_a_tuple_have_their_own_types(kind: Any, fits: Any, does_not_fit: list[Any]) -> None:
    """The schema says the same as the reader."""
    validator = jsonschema.Draft202012Validator(json_schema(kind))
    structure_plain(kind, fits)
    assert validator.is_valid(fits)
    for value in does_not_fit:
        with pytest.raises(InvalidRequest):
            structure_plain(kind, value)
        assert not validator.is_valid(value)


def test_the_fault_of_a_tuple_names_the_item() -> None:
    """A path leads into it."""
    with pytest.raises(InvalidRequest) as refused:
        structure_plain(dict[str, Pair], {"a": [{"name": 5}, "x"]})
    assert [fault["loc"] for fault in refused.value.faults] == [
        ["input", "a", 0, "name"],
        ["input", "a", 1],
    ]
