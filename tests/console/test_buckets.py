"""The numbers of the plots do not depend on the order in which stretches of the feed are read."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cgworker.console.buckets import Buckets
from cgworker.wire.projections import EventEntry

START = 1_800_000_000


def event(seq: int, kind: str, turn: int, at: float) -> EventEntry:
    return EventEntry(
        ledger_seq=seq,
        event_type=f"turn.{kind}",
        subject_kind="turn",
        subject_id=f"T-{turn}",
        actor_kind="agent",
        actor_id="a",
        created_at=datetime.fromtimestamp(START + at, UTC),
        annotations={},
    )


FEED = [
    event(1, "spawned", 1, 0),
    event(2, "spawned", 2, 5),
    event(3, "claimed", 1, 8),
    event(4, "suspended", 1, 12),
    event(5, "claimed", 2, 21),
    event(6, "finished", 2, 25),
    event(7, "resumed", 1, 31),
    event(8, "claimed", 1, 32),
    event(9, "finished", 1, 45),
    event(10, "spawned", 3, 47),
]


def numbers(buckets: Buckets) -> object:
    buckets.settle(2, "failed")
    buckets.settle(1, "succeeded")
    return buckets.series(end=START + 49, window=40, step=10, queued=1, held=0)


@given(cuts=st.sets(st.integers(0, len(FEED)), max_size=4))
def test_stretches_that_are_read_backwards_count_the_same(cuts: set[int]) -> None:
    """Levels, outcomes and pick-up times, also of turns that were queued in one and claimed in another."""
    whole, parts = Buckets(), Buckets()
    whole.add(FEED)
    edges = sorted({0, len(FEED), *cuts})
    stretches = [FEED[low:high] for low, high in pairwise(edges)]
    parts.add(stretches[-1])
    for stretch in reversed(stretches[:-1]):
        parts.add_earlier(stretch)
    assert numbers(parts) == numbers(whole)


def test_levels_end_at_the_present_and_outcomes_are_counted() -> None:
    """One turn is queued now; one failed in the third stretch of ten seconds, one succeeded in the last."""
    buckets = Buckets()
    buckets.add(FEED)
    found = buckets.series(end=START + 49, window=40, step=10, queued=1, held=0)
    assert found["queued"] == [1, 1, 0, 0, 1]
    assert found["held"] == [1, 0, 0, 1, 0]
    buckets.settle(2, "failed")
    assert buckets.series(end=START + 49, window=40, step=10, queued=1, held=0)["failed"] == [0, 0, 1, 0, 0]
