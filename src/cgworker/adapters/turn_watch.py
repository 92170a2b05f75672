"""Watch a turn from outside for an adapter's client, through outages of the kernel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import anyio
from attrs import evolve, frozen

from cgworker.client import KernelClient
from cgworker.durable.answers import OpenQuestion, questions_of
from cgworker.errors import KernelTrouble
from cgworker.retrying import Backoff, retry
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot

T = TypeVar("T")

_WAIT_SECONDS = 20.0
_ALL_ANSWERS_SECONDS = 30.0
_AT_ONCE_SECONDS = 0.05  # a kernel that answers "no news" sooner than this does not support waiting


@frozen(kw_only=True)
class TurnNews:
    """What happened to a turn since the last news.

    Attributes:
        snapshot: the turn's current state.
        items: the new records, oldest first.
        questions: all questions that are open now; empty unless the turn is suspended.
    """

    snapshot: TurnSnapshot
    items: tuple[SemanticItem, ...]
    questions: tuple[OpenQuestion, ...]


async def until_answered(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call while the kernel is away.

    Args:
        call: makes one attempt; repeating it must have no effect.

    Returns:
        What the call returns.

    Raises:
        KernelRefused: the kernel refused the call.
    """
    return await retry(call, on=KernelTrouble, backoff=Backoff(0.2, 5.0))


async def watch_turn(
    kernel: KernelClient,
    turn: TurnRef,
    *,
    after_turn_seq: int = 0,
    with_items: bool = True,
    with_pauses: bool = False,
) -> AsyncGenerator[TurnNews, None]:
    """Yield the turn's state at once, and again whenever something happens to it, until it is closed.

    Args:
        kernel: makes the calls.
        turn: the turn.
        after_turn_seq: yield only records with a higher number.
        with_items: whether to read the records at all.
        with_pauses: whether to yield the last news again, without records, when nothing happens for 20 s.

    Raises:
        KernelRefused: the kernel refused a call.
    """
    news: TurnNews | None = None
    seen_until, pause = 0, Backoff(0.1, 1.0)
    while True:
        asked_at = anyio.current_time()
        page = await until_answered(
            partial(kernel.turns.feed, turn, after_ledger_seq=seen_until, wait_seconds=_WAIT_SECONDS)
        )
        seen_until = page.next_after_ledger_seq
        if not page.items and news is not None:
            if with_pauses:
                yield evolve(news, items=())
            if anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
                await anyio.sleep(pause.next_seconds())
            continue
        pause.reset()
        # Events are read first: what happens while the rest is read comes again as a later event.
        news = await until_answered(partial(read_news, kernel, turn, after_turn_seq, with_items=with_items))
        yield news
        if news.items:
            after_turn_seq = news.items[-1].record.turn_seq
        if news.snapshot.state == "closed":
            return


async def read_news(
    kernel: KernelClient, turn: TurnRef, after_turn_seq: int = 0, *, with_items: bool = True
) -> TurnNews:
    """Return the turn's state, its records after a number, and its open questions.

    Args:
        kernel: makes the calls.
        turn: the turn.
        after_turn_seq: return only records with a higher number.
        with_items: whether to read the records at all.

    Raises:
        KernelRefused: the kernel refused a call.
        KernelTrouble: the kernel gave no usable answer.
    """
    snapshot = await kernel.turns.get(turn)
    records = kernel.turns.records(turn, after_turn_seq=after_turn_seq)
    return TurnNews(
        snapshot=snapshot,
        items=tuple([item async for item in records]) if with_items else (),
        questions=await questions_of(kernel, turn) if snapshot.state == "suspended" else (),
    )


async def answer_each(
    kernel: KernelClient, turn: TurnRef, keys: Set[str], answer: Callable[[OpenQuestion], Awaitable[None]]
) -> None:
    """Answer several questions of a turn, which runs after each answer before it can take the next.

    Questions that are not open are passed over. If the turn does not run within 30 seconds, the others stay
    open.

    Args:
        kernel: makes the calls.
        turn: the turn.
        keys: the keys of the questions.
        answer: answers a question.

    Raises:
        KernelRefused: the kernel refused a call, or what `answer` raises.
    """
    left = set(keys)
    watched = watch_turn(kernel, turn, with_items=False)
    with anyio.move_on_after(_ALL_ANSWERS_SECONDS):
        async with aclosing(watched):
            async for news in watched:
                if news.snapshot.state == "suspended":
                    left &= {question.key for question in news.questions}
                if not left or news.snapshot.state == "closed":
                    return
                if question := next((each for each in news.questions if each.key in left), None):
                    await answer(question)
                    left.discard(question.key)
