"""What a turn of a command costs its worker: calls, tasks, and messages to the guard."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cgworker import CommandHandler, Succeeded
from cgworker.handlers import guard as guard_module
from cgworker.handlers import process
from tests.turns import make_turn

TURNS = 5

pytestmark = [
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.skipif(not process.HAS_PIDFD, reason="this system has no pidfd"),
]


@pytest.fixture(autouse=True)
def _small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder of its own; each variable that is passed on takes calls."""
    monkeypatch.setattr("os.environ", {"PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(tmp_path)})


async def work(handler: CommandHandler, count: int = TURNS) -> None:
    for turn in [make_turn() for _ in range(count)]:
        assert await handler(turn) == Succeeded({})


@contextmanager
def counting_calls() -> Iterator[list[str]]:
    calls = list[str]()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


HANDLER = CommandHandler(("sh", "-c", "echo {} > $CG_FINAL_FILE"))


async def test_a_command_takes_few_calls() -> None:
    """Of all functions, those of the event loop and the standard library too."""
    async with HANDLER.opened() as handler:
        await work(handler)
        turns = [make_turn() for _ in range(TURNS)]
        with counting_calls() as calls:
            for turn in turns:
                await handler(turn)
    assert 100 < len(calls) / TURNS <= 850, len(calls) / TURNS


async def test_a_command_takes_no_task() -> None:
    made, loop = list[str](), asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async with HANDLER.opened() as handler:
        await work(handler, 1)
        loop.set_task_factory(make)
        try:
            await work(handler)
        finally:
            loop.set_task_factory(None)
    assert not made


async def test_the_guard_is_told_three_things_of_a_commands_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each line may wake it; it knows beforehand where all folders are."""
    told = list[dict[str, Any]]()
    write = vars(guard_module)["_write"]

    def note(to: Any, fact: dict[str, Any]) -> bool:
        told.append(fact)
        is_written: bool = write(to, fact)
        return is_written

    async with HANDLER.opened() as handler:
        await work(handler, 1)
        monkeypatch.setattr(guard_module, "_write", note)
        await work(handler)
    assert [next(iter(fact)) for fact in told] == [*["group", "gone", "remove"] * TURNS, "remove"]
