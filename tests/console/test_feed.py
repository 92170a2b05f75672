"""The reader of the feed, at a kernel that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from cgworker import KernelClient
from cgworker.console.feed import FeedReader
from tests.console.pretender import ME, NOW


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Ledger:
    """A kernel that has only a feed.

    Attributes:
        end: the number of the last event.
        is_away: whether it answers 503.
        asked: set by each request.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self.is_away = False
        self.asked = asyncio.Event()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        if self.is_away:
            return httpx.Response(503, json={"message": "away"})
        after, limit = (int(request.url.params[name]) for name in ("after_ledger_seq", "limit"))
        numbers = range(after + 1, self.end + 1)[:limit]
        page = {"project_id": "p", "limit": limit, "items": [_event(number) for number in numbers]}
        return httpx.Response(200, json={**page, "next_after_ledger_seq": numbers[-1] if numbers else after})


def _event(number: int) -> dict[str, object]:
    actor = {"actor_kind": "agent", "actor_id": "a", "annotations": {}, "created_at": NOW}
    subject = {"subject_kind": "turn", "subject_id": "T-1", "event_type": "turn.claimed"}
    return {"ledger_seq": number, **actor, **subject}


async def _until(reader: FeedReader, is_so: Callable[[], bool]) -> None:
    subscription = reader.subscribe()
    while not is_so():
        await subscription.wait(60)
    reader.unsubscribe(subscription)


async def test_a_feed_that_ends_earlier_than_before_is_followed_from_its_end() -> None:
    """The database was restored from a backup: its numbers begin again where the backup ended."""
    ledger = _Ledger(5000)
    async with asyncio.timeout(60), httpx.AsyncClient(transport=httpx.MockTransport(ledger.answer)) as http:
        reader = FeedReader(KernelClient("http://127.0.0.1:9", agent=ME, token="cgac_x", http=http), "p")
        seen: list[int] = []
        reader.listen(lambda events: seen.extend(event.ledger_seq for event in events))
        forgotten: list[int] = []
        reader.when_restored(lambda: forgotten.append(ledger.end))
        reader.start()
        while reader.position is None:
            ledger.asked.clear()
            await ledger.asked.wait()
        ledger.end += 1
        await _until(reader, lambda: seen == [5001])
        ledger.is_away = True
        await _until(reader, lambda: reader.trouble is not None)
        ledger.end, ledger.is_away = 4000, False
        await _until(reader, lambda: reader.trouble is None)
        assert forgotten == [4000]
        ledger.end += 1
        await _until(reader, lambda: seen == [5001, 4001])
        await reader.stop()
