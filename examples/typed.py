"""A worker with typed handlers of several kinds, and a lifespan that opens what they share.

python examples/typed.py
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from attrs import frozen

from cgworker import Outcome, Turn, Worker, WorkerOptions, fail, run


@asynccontextmanager
async def lifespan(_: Worker) -> AsyncIterator[dict[str, Any]]:
    """Opened before the first turn is claimed, closed after the drain; handlers get it by name."""
    database = sqlite3.connect(":memory:")
    database.execute("create table seen (task text)")
    yield {"database": database}
    database.close()


desk = Worker.from_profile("cg-demo/worker-1", options=WorkerOptions(concurrency=2), lifespan=lifespan)


@frozen
class Question:
    """What is asked."""

    task: Annotated[str, "what is to be done"]
    tone: Literal["plain", "polite"] = "plain"


@frozen
class Answer:
    """What is answered."""

    text: str
    seen_count: int


@dataclass
class Review:
    """What is to be looked at, and by whom."""

    text: str
    reviewers: list[str]


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: Question, *, database: sqlite3.Connection) -> Answer:
    """Answer a question, and remember it."""
    database.execute("insert into seen values (?)", [question.task])
    [[seen_count]] = database.execute("select count(*) from seen")
    please = "please " if question.tone == "polite" else ""
    return Answer(text=f"You asked: {please}{question.task} ({turn.kind})", seen_count=seen_count)


@desk.turn("turn.review.v1")
def review(turn: Turn, asked: Review) -> dict[str, Any] | Outcome:
    """Without `async` it runs in a thread, and looks now and then whether it should end."""
    if not asked.reviewers:
        return fail({"error": "nobody_asked"})
    notes = {}
    for reviewer in asked.reviewers:
        turn.check()
        notes[reviewer] = f"{len(asked.text)} characters are too many"
    return {"notes": notes}


@desk.middleware
async def say_how_it_went(turn: Turn, call_next: Callable[[Turn], Awaitable[Outcome]]) -> Outcome:
    """Around every handler of this worker."""
    outcome = await call_next(turn)
    print(f"{turn.ref}: {type(outcome).__name__}")
    return outcome


if __name__ == "__main__":
    run(desk)
