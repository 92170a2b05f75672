"""Functions as handlers: typed by their hints, and checked before the first turn."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker import Failed, Interrupted, Reason, Succeeded, Suspended, Turn, UsageError, suspend
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

    async with anyio.create_task_group() as group:
        group.start_soon(_interrupt_soon, turn)
        with pytest.raises(HandlerAbandoned):
            await FunctionHandler.of(lambda _: release.wait(60))(turn)
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
    async def three(turn: Turn, a: int, b: int) -> None: ...
    async def unknown(turn: Turn, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    async def asks(turn: Turn, *, database: str) -> None: ...
    async def returns_bytes(_: Turn) -> bytes:
        return b""

    for function in (none, three, unknown, asks, returns_bytes):
        with pytest.raises(UsageError, match=function.__name__):
            FunctionHandler.of(function)


async def test_keyword_arguments_can_be_injected_by_name() -> None:
    """What a lifespan opened reaches the handlers that ask for it."""

    async def work(_: Turn, question: str, *, database: str) -> str:
        return question + database

    handler = FunctionHandler.of(work, {"database": "db"})
    assert await handler(make_turn("q")) == Succeeded("qdb")
