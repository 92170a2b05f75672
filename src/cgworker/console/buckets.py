"""Count a project's events in buckets of time, in whatever order stretches of its feed are read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from cgworker.wire.projections import EventEntry

BUCKET_SECONDS = 10
OUTCOMES = ("succeeded", "failed", "stopped")
_BINS_PER_DOUBLING = 4  # pick-up times are kept to 19 %
_QUEUES = ("turn.spawned", "turn.resumed", "turn.claim_reconciled")
_RELEASES = ("turn.suspended", "turn.claim_reconciled", "turn.finished")


@define
class Bucket:
    """What happened in ten seconds."""

    closed: Counter[str] = field(factory=Counter)
    queued: int = 0
    held: int = 0
    pick_ups: Counter[int] = field(factory=Counter)


class Buckets:
    """Buckets by number, which is the time in tens of seconds.

    Attributes:
        unsettled: the closed turns whose outcome is not known yet, by their number: the bucket.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}
        self._queued_at: dict[str, float] = {}
        self._claimed_unqueued: dict[str, float] = {}
        self.unsettled: dict[int, int] = {}

    def add(self, events: Sequence[EventEntry]) -> None:
        """Count events that follow those that were added last."""
        for event in events:
            if event.subject_kind == "turn":
                self._add(event, self._queued_at)

    def add_earlier(self, events: Sequence[EventEntry]) -> None:
        """Count a whole stretch of the feed that ends where those that were added begin."""
        claimed_later, self._claimed_unqueued = self._claimed_unqueued, {}
        queued_at: dict[str, float] = {}
        for event in events:
            if event.subject_kind == "turn":
                self._add(event, queued_at)
        for turn_id, begun_at in queued_at.items():
            if (claimed_at := claimed_later.pop(turn_id, None)) is not None:
                self._note_pick_up(claimed_at, claimed_at - begun_at)
            else:
                self._queued_at.setdefault(turn_id, begun_at)
        self._claimed_unqueued.update(claimed_later)

    def settle(self, number: int, outcome: str) -> None:
        """Count the outcome of a closed turn."""
        if (place := self.unsettled.pop(number, None)) is not None:
            self._bucket(place).closed[outcome] += 1

    def forget_before(self, instant: float) -> None:
        """Drop what happened before an instant."""
        first = int(instant) // BUCKET_SECONDS
        for place in [place for place in self._buckets if place < first]:
            del self._buckets[place]

    def series(self, *, end: float, window: int, step: int, queued: int, held: int) -> Mapping[str, Any]:
        """Return the plots' numbers, one for each step: turns closed, levels, and pick-up times in seconds.

        Args:
            end: the present, in seconds since 1970.
            window: how many seconds to go back.
            step: how many seconds each number is about, a multiple of ten.
            queued: how many turns are queued now.
            held: how many leases are held now.
        """
        last = int(end) // step
        places = range(last - window // step, last + 1)
        width = step // BUCKET_SECONDS
        merged = [
            [self._buckets[b] for b in range(place * width, (place + 1) * width) if b in self._buckets]
            for place in places
        ]
        after = [b for place, b in self._buckets.items() if place >= (last + 1) * width]
        queued -= sum(bucket.queued for bucket in after)
        held -= sum(bucket.held for bucket in after)
        levels = []
        for buckets in reversed(merged):
            levels.append((max(queued, 0), max(held, 0)))
            queued -= sum(bucket.queued for bucket in buckets)
            held -= sum(bucket.held for bucket in buckets)
        levels.reverse()
        pick_ups = [sum((bucket.pick_ups for bucket in buckets), Counter[int]()) for buckets in merged]
        return {
            "begins_at": places.start * step,
            "step": step,
            **{
                outcome: [sum(b.closed[outcome] for b in buckets) for buckets in merged]
                for outcome in OUTCOMES
            },
            "queued": [level[0] for level in levels],
            "held": [level[1] for level in levels],
            "p50": [_quantile(each, 0.50) for each in pick_ups],
            "p95": [_quantile(each, 0.95) for each in pick_ups],
        }

    def _add(self, event: EventEntry, queued_at: dict[str, float]) -> None:
        at, kind, turn_id = event.created_at.timestamp(), event.event_type, event.subject_id
        bucket = self._bucket(int(at) // BUCKET_SECONDS)
        if kind in _RELEASES:
            bucket.held -= 1
        if kind in _QUEUES:
            bucket.queued += 1
            queued_at[turn_id] = at
        elif kind == "turn.claimed":
            bucket.queued -= 1
            bucket.held += 1
            if (begun_at := queued_at.pop(turn_id, None)) is not None:
                self._note_pick_up(at, at - begun_at)
            else:
                self._claimed_unqueued.setdefault(turn_id, at)
        elif kind == "turn.finished":
            queued_at.pop(turn_id, None)
            self.unsettled[int(turn_id.removeprefix("T-"))] = int(at) // BUCKET_SECONDS

    def _note_pick_up(self, claimed_at: float, seconds: float) -> None:
        bin_number = round(math.log2(max(seconds, 0.0001)) * _BINS_PER_DOUBLING)
        self._bucket(int(claimed_at) // BUCKET_SECONDS).pick_ups[bin_number] += 1

    def _bucket(self, place: int) -> Bucket:
        return self._buckets.setdefault(place, Bucket())


def _quantile(bins: Counter[int], share: float) -> float | None:
    """Return a quantile of pick-up times in seconds; None without any."""
    rest = share * bins.total()
    for number in sorted(bins):
        rest -= bins[number]
        if rest <= 0:
            return float(f"{2.0 ** (number / _BINS_PER_DOUBLING):.3g}")
    return None
