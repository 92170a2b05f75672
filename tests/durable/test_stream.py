"""A stream's records: few by size and time however long an append takes, and whole characters only."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from cgworker.durable.journal import Journal
from cgworker.durable.stream import open_stream
from cgworker.testing import virtual_time
from cgworker.wire.converter import dumps


class SlowJournal:
    """Takes records as slowly as the test says."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.texts: list[str] = []
        self._seconds = seconds

    async def append(self, payload: Any, _role: str, *, key: str | None = None) -> None:
        assert key is not None
        await anyio.sleep(self._seconds)
        dumps(payload)
        assert payload["index"] == len(self.texts)
        self.texts.append(payload["text"])


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """In virtual time, so that a loaded machine ends no wait before its time."""
    return virtual_time(request.param)


async def streamed(journal: SlowJournal, pieces: list[str], *, pause: float = 0, most: int = 4096) -> int:
    """Writes the pieces, and counts the characters."""
    opened = open_stream(cast("Journal", journal), "progress", max_characters=most, max_seconds=0.2)
    async with opened as out:
        for piece in pieces:
            await out.write(piece)
            await anyio.sleep(pause)
    assert out.record_count == len(journal.texts)
    return out.character_count


async def test_slow_appends_do_not_make_more_records() -> None:
    """What is written while one is under way waits as long as anything else."""
    journal = SlowJournal(seconds=0.03)
    pieces = [f"{number} " for number in range(100)]
    await streamed(journal, pieces, pause=0.005)
    assert "".join(journal.texts) == "".join(pieces)
    assert len(journal.texts) <= 6  # at most one every 0.2 s, and the end


async def test_writers_side_by_side_make_records_of_the_right_size() -> None:
    """Who waited for another's record does not send the little that came since."""
    journal = SlowJournal(seconds=0.01)
    opened = open_stream(cast("Journal", journal), "progress", max_characters=100, max_seconds=60)
    async with opened as out:

        async def write(nth: int) -> None:
            await anyio.sleep(0.002 * nth)
            await out.write("x" * 10)

        async with anyio.create_task_group() as writers:
            for nth in range(55):
                writers.start_soon(write, nth)
    assert all(len(text) >= 100 for text in journal.texts[:-1])
    assert sum(len(text) for text in journal.texts) == 550


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["\ud83d", "", "\ude00"], "\U0001f600"),
        (["a\ud83d"], "a\N{REPLACEMENT CHARACTER}"),
        (["\ud83d", "b"], "\N{REPLACEMENT CHARACTER}b"),
        (["\ude00b"], "\N{REPLACEMENT CHARACTER}b"),
        (["\ud83d", "\ud83d", "\ude00"], "\N{REPLACEMENT CHARACTER}\U0001f600"),
        (["ä", "\U0001f600"], "ä\U0001f600"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("most", [1, 4096])
async def test_a_character_cut_in_two_is_put_together(pieces: list[str], text: str, most: int) -> None:
    """A half that stays alone is shown as such; no record has half a character in it."""
    journal = SlowJournal()
    assert await streamed(journal, pieces, most=most) == len(text)
    assert "".join(journal.texts) == text
