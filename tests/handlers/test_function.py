"""Functions as handlers: typed by their hints, and checked before the first turn."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

import anyio
import pytest
from attrs import frozen

from cgworker import (
    Failed,
    Interrupted,
    Outcome,
    Reason,
    Succeeded,
    Suspended,
    Turn,
    UsageError,
    fail,
    suspend,
)
from cgworker.handlers import FunctionHandler
from cgworker.handlers.function import HandlerAbandoned
from tests.turns import make_turn


@frozen
class Question:
    text: str
    tags: tuple[str, ...] = ()


@dataclass
class Point:
    x: int
    y: int


async def outcome_of(function: Any, input: Any = None) -> Any:
    return await FunctionHandler.of(function)(make_turn(input))


async def test_the_input_is_read_as_its_hint_says() -> None:
    """An attrs class, a dataclass, a dict or a plain type; unknown fields do not matter."""

    async def ask(_: Turn, question: Question) -> str:
        return f"{question.text} {question.tags}"

    async def add(_: Turn, point: Point) -> int:
        return point.x + point.y

    async def take(_: Turn, anything: dict[str, Any]) -> dict[str, Any]:
        return anything

    assert await outcome_of(ask, {"text": "hi", "tags": ["a"], "more": 1}) == Succeeded("hi ('a',)")
    assert await outcome_of(add, {"x": 1, "y": 2}) == Succeeded(3)
    assert await outcome_of(take, {"a": None}) == Succeeded({"a": None})


async def test_input_that_does_not_fit_fails_with_every_fault_and_its_path() -> None:
    """The function is not called, and nothing is converted in silence."""

    async def ask(_: Turn, question: Question) -> str:
        raise AssertionError(question)

    failed = await outcome_of(ask, {"text": 1, "tags": ["a", 2]})
    assert isinstance(failed, Failed)
    assert failed.payload["error"] == "invalid_input"
    assert [fault["loc"] for fault in failed.payload["faults"]] == [["input", "text"], ["input", "tags", 1]]
    assert isinstance(await outcome_of(ask, "not an object"), Failed)


async def test_what_is_returned_becomes_the_payload() -> None:
    """Classes with fields too; None is no payload; an outcome stands as it is."""

    async def answer(_: Turn) -> Question:
        return Question("a")

    async def nothing(_: Turn) -> None:
        return None

    async def aside(_: Turn) -> Suspended:
        return suspend("later", "why")

    assert await outcome_of(answer) == Succeeded({"text": "a", "tags": ["a"][:0]})
    assert await outcome_of(nothing) == Succeeded()
    assert await outcome_of(aside) == suspend("later", "why")


async def test_a_return_that_is_not_json_is_the_handlers_error() -> None:
    """It is raised where the handler ran, not when the turn is settled."""

    async def answer(_: Turn) -> Any:
        return {"at": object()}

    with pytest.raises(TypeError):
        await outcome_of(answer)


async def test_a_plain_function_runs_in_a_thread() -> None:
    """The event loop goes on meanwhile."""

    def work(_: Turn) -> str:
        time.sleep(0.01)  # what a thread is for
        return threading.current_thread().name

    outcome = await outcome_of(work)
    assert outcome.payload != threading.current_thread().name


async def test_a_thread_sees_an_interruption_by_checking() -> None:
    """It ends where it checks, through any `except Exception` on the way."""
    turn = make_turn()
    running = threading.Event()

    def work(turn: Turn) -> None:
        while True:
            running.set()
            time.sleep(0.005)  # what a thread is for
            try:
                turn.check()
            except Exception as swallowed:
                raise AssertionError from swallowed

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, lambda: (running.wait(), None)[1])
        group.start_soon(_interrupt_when, running, turn)
        with pytest.raises(Interrupted):
            await FunctionHandler.of(work)(turn)


async def test_a_thread_that_does_not_check_is_left_behind_after_its_grace() -> None:
    """Threads cannot be ended from outside; its slot must not wait for it."""
    turn = make_turn()
    release = threading.Event()

    def wait(_: Turn) -> bool:
        return release.wait(60)

    async with anyio.create_task_group() as group:
        group.start_soon(_interrupt_soon, turn)
        with pytest.raises(HandlerAbandoned):
            await FunctionHandler.of(wait)(turn)
    release.set()


async def _interrupt_when(running: threading.Event, turn: Turn) -> None:
    await anyio.to_thread.run_sync(running.wait)
    turn.interrupt(Reason.STOP, grace_seconds=5)


async def _interrupt_soon(turn: Turn) -> None:
    await anyio.sleep(0.05)
    turn.interrupt(Reason.STOP, grace_seconds=0.05)


def test_a_signature_that_cannot_be_a_handlers_is_refused_when_it_is_added() -> None:
    """Not on the first turn."""

    async def none() -> None: ...
    async def unknown(turn: Turn, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    async def returns_bytes(_: Turn) -> bytes:
        return b""

    for function in (none, unknown, returns_bytes):
        with pytest.raises(UsageError, match=function.__name__):
            FunctionHandler.of(function)  # type: ignore[arg-type]  # a type checker sees it as well


def test_a_function_that_yields_is_refused_when_it_is_added() -> None:
    """Calling it would only make a generator; so is a partial of one, and an object whose call yields."""

    async def pieces(turn: Turn) -> Any:
        yield turn.input

    def plain_pieces(turn: Turn) -> Any:
        yield turn.input

    class Pieces:
        def __call__(self, turn: Turn) -> Any:
            yield turn.input

    for function in (pieces, plain_pieces, partial(pieces), Pieces()):
        with pytest.raises(UsageError, match=r"yields.*turn\.stream"):
            FunctionHandler.of(function)


async def test_a_partial_is_typed_and_named_as_the_function_in_it() -> None:
    """Its hints are read, async or not, and what it binds is nobody's resource."""

    class Asked:
        async def __call__(self, turn: Turn, question: Question, *, mark: str) -> str:
            return f"{question.text}{mark}{turn.attempt}"

    async def bound(mark: str, turn: Turn, question: Question) -> str:
        return f"{question.text}{mark}{turn.attempt}"

    turn = make_turn({"text": "why"})
    for function in (partial(Asked(), mark="?"), partial(bound, "?"), partial(partial(bound), "?")):
        handler = FunctionHandler.of(function)
        assert handler.signature.input_type is Question
        assert await handler(turn) == Succeeded("why?1")
    assert FunctionHandler.of(partial(bound, "?")).signature.name.endswith("bound")


@pytest.mark.parametrize(
    "function", [partial(max), partial(zip), partial(int, "1", 2, 3)], ids=["max", "zip", "int"]
)
def test_a_partial_that_cannot_be_read_is_refused_when_it_is_added(function: Any) -> None:
    """Not on the first turn."""
    with pytest.raises(UsageError):
        FunctionHandler.of(function)


def test_an_input_that_json_cannot_be_is_refused_with_the_way_out() -> None:
    """It may have been meant as a resource."""

    class Database: ...

    async def ask(turn: Turn, database: Database) -> None: ...

    with pytest.raises(UsageError, match=r"cannot be read from JSON.*after a `\*`"):
        FunctionHandler.of(ask)


async def test_keyword_arguments_can_be_injected_by_name() -> None:
    """What a lifespan opened reaches the handlers that ask for it."""

    async def work(_: Turn, question: str, *, database: str) -> str:
        return question + database

    handler = FunctionHandler.of(work, {"database": "db"})
    assert await handler(make_turn("q")) == Succeeded("qdb")


async def test_a_resource_is_given_by_its_name_wherever_it_stands() -> None:
    """After the input or after a `*`; one with a default may be missing."""

    async def work(_: Turn, question: str, cache: str, *, database: str, mode: str = "slow") -> str:
        return f"{question} {cache} {database} {mode}"

    handler = FunctionHandler.of(work).with_resources({"cache": "c", "database": "d", "other": 1})
    assert await handler(make_turn("q")) == Succeeded("q c d slow")


def test_a_missing_or_clashing_resource_is_refused_with_what_to_do() -> None:
    """By the name of the function and of the parameter."""

    async def work(_: Turn, database: str, *, cache: str) -> str:
        return database + cache

    handler = FunctionHandler.of(work)
    with pytest.raises(UsageError, match=r"work asks for `cache`, and the lifespan gives `http`: yield"):
        handler.with_resources({"http": 1})
    with pytest.raises(UsageError, match=r"work: the lifespan gives `database`.*after a `\*`"):
        handler.with_resources({"database": 1, "cache": 2})
    with pytest.raises(UsageError, match="there is no lifespan"):
        handler.check()


async def test_an_outcomes_payload_may_be_a_class_with_fields() -> None:
    """It is read as JSON like a plain value that is returned."""

    async def answer(_: Turn) -> Outcome:
        return fail(Point(1, 2))

    assert await outcome_of(answer) == Failed({"x": 1, "y": 2})


class Colour(Enum):
    RED = "red"


class Named(TypedDict):
    item: str


class Order(Named, total=False):
    count: int


@pytest.mark.parametrize(
    ("hint", "given", "read"),
    [
        (str | None, None, None),
        (int | str, "a", "a"),
        (float | int, 1, 1),
        (str | list[str], ["a"], ["a"]),
        (Question | Point, {"x": 1, "y": 2}, Point(1, 2)),
        (Point | Question | None, {"text": "a", "tags": []}, Question("a")),
        (list[Point], [{"x": 1, "y": 2}], [Point(1, 2)]),
        (dict[str, Point], {"a": {"x": 1, "y": 2}}, {"a": Point(1, 2)}),
        (Order, {"item": "a"}, {"item": "a"}),
        (Colour, "red", Colour.RED),
        (Literal["a", 1], 1, 1),
        (Annotated[int, "so many"], 3, 3),
        (set[int], [1, 1], {1}),
        (date, "2026-01-02", date(2026, 1, 2)),
    ],
    ids=str,
)
async def test_each_kind_of_hint_is_read(hint: Any, given: Any, read: Any) -> None:
    """From JSON to what the hint says."""
    seen = []

    async def take(_: Turn, value: Any) -> None:
        seen.append(value)

    take.__annotations__["value"] = hint
    await outcome_of(take, given)
    assert seen == [read]


@pytest.mark.parametrize(
    ("hint", "given", "path"),
    [
        (list[str], "abc", []),
        (dict[str, int], {"a": "1"}, ["a"]),
        (Order, {"item": 1}, ["item"]),
        (Colour, "blue", []),
        (Literal["a", 1], True, []),
        (int | str, 1.5, []),
        (Question | Point, {}, []),
        (date, "yesterday", []),
        (set[int], "ab", []),
    ],
    ids=str,
)
async def test_nothing_is_converted_in_silence(hint: Any, given: Any, path: list[str]) -> None:
    """What does not fit is invalid input, with its path."""

    async def take(_: Turn, value: Any) -> None:
        raise AssertionError(value)

    take.__annotations__["value"] = hint
    failed = await outcome_of(take, given)
    [fault, *_] = failed.payload["faults"]
    assert (failed.payload["error"], fault["loc"]) == ("invalid_input", ["input", *path])
