"""Watch a turn from outside for an adapter's client, through outages of the kernel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.durable.answers import OpenQuestion, questions_of
from cgworker.errors import KernelTrouble
from cgworker.retrying import Backoff, retry
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot

T = TypeVar("T")

_WAIT_SECONDS = 20.0
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
    kernel: KernelClient, turn: TurnRef, *, after_turn_seq: int = 0, with_items: bool = True
) -> AsyncGenerator[TurnNews, None]:
    """Yield the turn's state at once, and again whenever something happens to it, until it is closed.

    Args:
        kernel: makes the calls.
        turn: the turn.
        after_turn_seq: yield only records with a higher number.
        with_items: whether to read the records at all.

    Raises:
        KernelRefused: the kernel refused a call.
    """
    seen_until, pause, is_first = 0, Backoff(0.1, 1.0), True
    while True:
        asked_at = anyio.current_time()
        page = await until_answered(
            partial(kernel.turns.feed, turn, after_ledger_seq=seen_until, wait_seconds=_WAIT_SECONDS)
        )
        seen_until = page.next_after_ledger_seq
        if not page.items and not is_first:
            if anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
                await anyio.sleep(pause.next_seconds())
            continue
        pause.reset()
        is_first = False
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
