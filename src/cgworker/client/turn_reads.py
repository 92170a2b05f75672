"""Calls that read turns, their records and their events (wire 6.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from cgworker.client.feeds import read_feed_page
from cgworker.client.paths import turn_path
from cgworker.errors import KernelLacks, KernelTrouble
from cgworker.retrying import Backoff
from cgworker.wire.converter import structure_answer
from cgworker.wire.lazy import Lazy
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.records import JSON_LINES, SemanticItem, TurnContext
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient

_FEED_PAGE = 500
_FOLLOW_SECONDS = 50.0
_AT_ONCE_SECONDS = 0.05  # a kernel that answers "no news" sooner than this does not support waiting


class TurnReads:
    """The reading half of `kernel.turns`; see `KernelClient` for what the calls raise."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def get(self, turn: TurnRef, *, state: str | None = None, wait_seconds: float = 0) -> TurnSnapshot:
        """Return the turn's current state.

        Args:
            turn: the turn.
            state: with `wait_seconds`, wait until the turn has left this state or is closed.
            wait_seconds: how long the kernel may wait; the reference's kernel answers at once.

        Raises:
            NotFoundError: there is no such turn in the project.
        """
        answer = await self._kernel.send(
            "GET", turn_path(turn), query={"state": state}, wait_seconds=wait_seconds
        )
        return structure_answer(TurnSnapshot, answer.body).read_whole()

    async def context(self, turn: TurnRef, *, after_turn_seq: int = 0, limit: int = 100) -> TurnContext:
        """Return the turn and one page of its records.

        The page may be shorter than `limit` although there are more records; `context_page` tells.

        Args:
            turn: the turn.
            after_turn_seq: return only records with a higher number.
            limit: the most records to return.
        """
        return (await self.context_page(turn, after_turn_seq=after_turn_seq, limit=limit))[0]

    async def context_page(
        self, turn: TurnRef, *, after_turn_seq: int = 0, limit: int = 100
    ) -> tuple[TurnContext, bool]:
        """Return a page as `context` does, and whether there may be more records.

        There may be more if the page is full, or if the kernel cut it for its size (difference 11).

        Args:
            turn: the turn.
            after_turn_seq: return only records with a higher number.
            limit: the most records to return.
        """
        query = {"after_turn_seq": after_turn_seq, "limit": limit}
        headers = {"accept": f"{JSON_LINES}, application/json;q=0.9"}
        answer = await self._kernel.send("GET", turn_path(turn, "/context"), query=query, headers=headers)
        page = _context_of(answer.body)
        return page, answer.has_more(len(page.semantic_items), limit)

    async def wait_for_records(
        self, turn: TurnRef, *, after_turn_seq: int, wait_seconds: float
    ) -> TurnContext:
        """Wait until the turn has another record or is closed; return the turn and that record.

        Args:
            turn: the turn.
            after_turn_seq: the number of the last record that is known.
            wait_seconds: how long the kernel may wait, at least 1; after that the page is empty.

        Raises:
            KernelLacks: the kernel cannot wait for records, as the reference's cannot.
        """
        answer = await self._kernel.send(
            "GET",
            turn_path(turn, "/context"),
            query={"after_turn_seq": after_turn_seq, "limit": 1},
            wait_seconds=wait_seconds,
        )
        if not answer.waited:
            raise KernelLacks("waiting for a turn's records", self._kernel.base_url)
        return structure_answer(TurnContext, answer.body)

    async def records(
        self, turn: TurnRef, *, after_turn_seq: int = 0, page_size: int = 100
    ) -> AsyncGenerator[SemanticItem, None]:
        """Yield all records of the turn, page by page.

        A short page is the last one, unless the kernel says that it cut the page (difference 11).

        Args:
            turn: the turn.
            after_turn_seq: yield only records with a higher number.
            page_size: how many records to request at once.
        """
        while True:
            page, has_more = await self.context_page(turn, after_turn_seq=after_turn_seq, limit=page_size)
            for item in page.semantic_items:
                yield item
                after_turn_seq = item.record.turn_seq
            if not has_more:
                return

    async def feed(
        self, turn: TurnRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> FeedPage:
        """Return a page of the turn's events, and of the dispatch and end of its children.

        The page may be shorter than `limit` although there are more events; `feed_page` tells.

        Args:
            turn: the turn.
            after_ledger_seq: return only events with a higher number.
            limit: the most events to return.
            wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
        """
        page, _ = await self.feed_page(
            turn, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
        return page

    async def feed_page(
        self, turn: TurnRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> tuple[FeedPage, bool]:
        """Return a page as `feed` does, and whether there may be more events.

        There may be more if the page is full, or if the kernel cut it for its size (difference 11).

        Args:
            turn: the turn.
            after_ledger_seq: return only events with a higher number.
            limit: the most events to return.
            wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
        """
        return await read_feed_page(
            self._kernel,
            turn_path(turn, "/feed"),
            after_ledger_seq=after_ledger_seq,
            limit=limit,
            wait_seconds=wait_seconds,
        )

    async def events(self, turn: TurnRef) -> AsyncGenerator[LedgerEvent, None]:
        """Yield all events of the turn so far, and the dispatch and end of its children, page by page.

        Args:
            turn: the turn.
        """
        after_ledger_seq = 0
        while True:
            page, has_more = await self.feed_page(turn, after_ledger_seq=after_ledger_seq, limit=_FEED_PAGE)
            for event in page.items:
                yield event
            if not has_more:
                return
            after_ledger_seq = page.next_after_ledger_seq

    async def follow(
        self, turn: TurnRef, *, after_turn_seq: int = 0, poll_seconds: float = 1.0
    ) -> AsyncGenerator[SemanticItem, None]:
        """Yield the turn's records as they are made, until the turn is closed.

        Once the kernel has answered, an outage only delays: no record is skipped, and none comes twice.

        Args:
            turn: the turn.
            after_turn_seq: yield only records with a higher number.
            poll_seconds: the longest pause between two requests to a kernel that cannot wait.

        Raises:
            KernelTrouble: the kernel did not answer the first request.
        """
        pause, read_until, is_closed = Backoff(0.1, poll_seconds), 0, False
        has_answered = False
        while not is_closed:
            asked_at = anyio.current_time()
            try:
                page = await self.feed(
                    turn, after_ledger_seq=read_until, limit=_FEED_PAGE, wait_seconds=_FOLLOW_SECONDS
                )
                has_answered = True
                if page.items:
                    async with aclosing(self.records(turn, after_turn_seq=after_turn_seq)) as records:
                        async for item in records:
                            yield item
                            after_turn_seq = item.record.turn_seq
            except KernelTrouble as trouble:
                if not has_answered:
                    raise
                await anyio.sleep(pause.next_seconds(trouble))
                continue
            read_until = page.next_after_ledger_seq
            own = (event.event_type for event in page.items if event.subject_id == turn.turn_id)
            is_closed = "turn.finished" in own
            if page.items:
                pause.reset()
            elif anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
                await anyio.sleep(pause.next_seconds())


def _context_of(body: Any) -> TurnContext:
    """Read a context; of JSON lines each record is read when it is looked at (difference 43)."""
    if isinstance(body, list):
        turn, *records = body
        return TurnContext(
            turn=Lazy.read(TurnSnapshot, turn), semantic_items=tuple(map(SemanticItem.of, records))
        )
    return structure_answer(TurnContext, body)
