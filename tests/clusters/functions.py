"""What the tests run on a cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TypedDict

from attrs import frozen

from cgworker import fail
from cgworker.adapters.cluster import RemoteTurn
from cgworker.outcome import Outcome


@frozen
class Sum:
    """Two numbers to add."""

    left: int
    right: int


class Marks(TypedDict):
    """Where a function notes what it did."""

    folder: str


def add(input: Sum) -> int:
    """Add two numbers."""
    return input.left + input.right


async def later(input: int) -> int:
    """Return the next number, from a coroutine."""
    await asyncio.sleep(0)
    return input + 1


def who(turn: RemoteTurn, input: str) -> dict[str, object]:
    """Tell which turn this is."""
    return {"turn": turn.turn_id, "kind": turn.kind, "attempt": turn.attempt, "input": input}


def declines(input: str) -> Outcome:
    """Fail the turn."""
    return fail({"error": "no_luck", "for": input})


def raises(input: str) -> None:
    """Raise an error."""
    raise ValueError(f"cannot work {input}")


def large(input: int) -> str:
    """Return so many bytes."""
    return "x" * input


def sleeps(turn: RemoteTurn, input: Marks) -> str:
    """Note each start by the process's id, and sleep until a file `go` is there."""
    folder = Path(input["folder"])
    (folder / f"started-{os.getpid()}").write_text(turn.turn_id)
    try:
        while not (folder / "go").exists():
            time.sleep(0.05)
    except KeyboardInterrupt:
        (folder / f"interrupted-{os.getpid()}").touch()
        raise
    return "slept"


def stubborn(input: Marks) -> None:
    """Ignore what should end it."""
    folder = Path(input["folder"])
    (folder / f"started-{os.getpid()}").touch()
    while True:
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            (folder / f"ignored-{os.getpid()}").touch()


def dies(_input: str) -> None:
    """End the process that it runs in."""
    os.kill(os.getpid(), signal.SIGKILL)
