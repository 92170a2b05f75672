"""A worker with typed handlers for two kinds of turns, and a lifespan with a database that they share.

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
    """Open a database before the first claim and close it after the drain. Handlers get it by name."""
    database = sqlite3.connect(":memory:")
    database.execute("create table seen (task text)")
    yield {"database": database}
    database.close()


desk = Worker.from_profile("cg-demo/worker-1", options=WorkerOptions(concurrency=2), lifespan=lifespan)


@frozen
class Question:
    """The input of `answer`."""

    task: Annotated[str, "what is to be done"]
    tone: Literal["plain", "polite"] = "plain"


@frozen
class Answer:
    """The result of `answer`."""

    text: str
    seen_count: int


@dataclass
class Review:
    """The input of `review`: a text, and who reviews it."""

    text: str
    reviewers: list[str]


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: Question, *, database: sqlite3.Connection) -> Answer:
    """Answer a question, and store it."""
    database.execute("insert into seen values (?)", [question.task])
    [[seen_count]] = database.execute("select count(*) from seen")
    please = "please " if question.tone == "polite" else ""
    return Answer(text=f"You asked: {please}{question.task} ({turn.kind})", seen_count=seen_count)


@desk.turn("turn.review.v1")
def review(turn: Turn, asked: Review) -> dict[str, Any] | Outcome:
    """Review a text. Without `async` it runs in a thread; `turn.check()` ends it when it must end."""
    if not asked.reviewers:
        return fail({"error": "nobody_asked"})
    notes = {}
    for reviewer in asked.reviewers:
        turn.check()
        notes[reviewer] = f"{len(asked.text)} characters are too many"
    return {"notes": notes}


@desk.middleware
async def say_how_it_went(turn: Turn, call_next: Callable[[Turn], Awaitable[Outcome]]) -> Outcome:
    """Print the outcome of each turn. Middleware runs around each handler of this worker."""
    outcome = await call_next(turn)
    print(f"{turn.ref}: {type(outcome).__name__}")
    return outcome


if __name__ == "__main__":
    run(desk)
