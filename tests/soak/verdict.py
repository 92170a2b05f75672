"""What must be true at the end, and what is worth knowing."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import define, field, frozen

from cgworker.wire.projections import EventEntry
from cgworker.wire.turns import TurnSnapshot
from tests.soak.chaos import Deed
from tests.soak.journal import Run
from tests.soak.promises import (
    broken_messages,
    broken_schedules,
    broken_serial_keys,
    missing_calls,
    repeated_calls,
)
from tests.soak.stage import LEASE_SECONDS

AGAIN_SECONDS = LEASE_SECONDS + 2.0
"""How long a killed worker's turn may take to run again."""

_WAKING_SECONDS = 1.0
"""How long a worker that slept may take to see that its lease is over."""

_STORING_SECONDS = 0.5
"""How long a result may take from the handler's last word to the disk, on a machine this busy."""

_RECOVERY_SECONDS = 5.0
"""How long a kernel may answer 503 after its database came back."""


@frozen(kw_only=True)
class Evidence:
    """All that is known at the end; `heard` are the ids of the messages that the remote agent got."""

    deeds: Sequence[Deed]
    runs: Sequence[Run]
    feed: Sequence[EventEntry]
    followed: Sequence[Sequence[EventEntry]]
    turns: Sequence[tuple[int, TurnSnapshot]]
    serial_keys: Mapping[str, str]
    told: Iterable[str]
    statuses: Sequence[tuple[float, int]]
    heard: Sequence[str] = ()

    @property
    def runs_by_turn(self) -> Mapping[str, Sequence[Run]]:
        """The runs of each turn, in the order of their starts."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            found[run.turn_id].append(run)
        return found


@define
class Verdict:
    """Lines of the summary: what was counted, and the findings that may not be."""

    faults: dict[str, list[str]] = field(factory=dict)
    figures: dict[str, str] = field(factory=dict)

    def must_be_empty(self, what: str, found: Iterable[object]) -> None:
        """A promise: nothing of this kind may be found."""
        self.faults[what] = [str(one) for one in found]

    @property
    def passed(self) -> bool:
        """Whether all promises were kept."""
        return not any(self.faults.values())

    def __str__(self) -> str:
        width = max(map(len, [*self.faults, *self.figures]))
        lines = [
            f"  {'FAIL' if found else 'ok':4}  {what:{width}}  {len(found)}"
            for what, found in self.faults.items()
        ]
        lines += [f"        {what:{width}}  {said}" for what, said in self.figures.items()]
        lines += [f"  {what}: {one}" for what, found in self.faults.items() for one in found[:10]]
        return "\n".join(lines)


def judge(evidence: Evidence) -> Verdict:
    """Check all that the evidence of a soak can tell."""
    verdict = judge_turns(evidence)
    verdict.must_be_empty("sleeping turns woken early or twice", _broken_sleeps(evidence))
    verdict.must_be_empty(
        "serial keys with two running, or out of order",
        broken_serial_keys(evidence.feed, evidence.serial_keys),
    )
    verdict.must_be_empty("instants of a schedule lost or twice", broken_schedules(evidence.feed))
    verdict.must_be_empty(
        "messages lost, twice or out of order", broken_messages(evidence.runs, evidence.told)
    )
    verdict.must_be_empty(
        "calls of agents that were answered, and made again", repeated_calls(evidence.runs_by_turn)
    )
    verdict.must_be_empty("calls of agents that were never made", missing_calls(evidence.runs_by_turn))
    heard = Counter(evidence.heard)
    verdict.must_be_empty("messages a remote agent heard twice", [one for one in heard if heard[one] > 1])
    verdict.must_be_empty("5xx, but 503 while the database is away", _bad_statuses(evidence))
    calls = Counter(call for run in evidence.runs for call in run.calls)
    verdict.figures["calls of agents"] = ", ".join(str(calls[number]) for number in sorted(calls))
    runs = Counter(run.harness for run in evidence.runs if run.harness)
    cut_off = Counter(run.harness for run in evidence.runs if run.harness and run.done_at is None)
    verdict.figures["runs of agents, and cut off"] = ", ".join(
        f"{harness} {count}, {cut_off[harness]}" for harness, count in sorted(runs.items())
    )
    return verdict


def judge_turns(evidence: Evidence) -> Verdict:
    """Check what must be true of any turns, whoever works them."""
    verdict = Verdict()
    verdict.must_be_empty("lost: turns not closed", _not_closed(evidence))
    verdict.must_be_empty("wrong payloads", _wrong_payloads(evidence))
    verdict.must_be_empty("turns closed twice", closed_twice(evidence.feed))
    verdict.must_be_empty("claims of a held turn, settlings of a free one", broken_histories(evidence.feed))
    verdict.must_be_empty("runs that overlap under live leases", _overlaps(evidence))
    verdict.must_be_empty("events a follower missed or saw twice", _feed_differences(evidence))
    reasons = Counter(_why_repeated(evidence))
    verdict.must_be_empty(
        "completed work repeated for no known reason", ["?"] * reasons.pop("unexplained", 0)
    )
    verdict.figures["completed work repeated"] = _spell(reasons) or "never"
    verdict.figures["from a worker's death to running again"] = _spell_again(evidence)
    verdict.figures["what was done"] = _spell(Counter(deed.what for deed in evidence.deeds))
    verdict.figures["events, runs"] = f"{len(evidence.feed)}, {len(evidence.runs)}"
    return verdict


def _spell(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counted.items()))


# ---------------------------------------------------------------- turns


def _not_closed(evidence: Evidence) -> Iterable[str]:
    for n, turn in evidence.turns:
        if turn.state != "closed":
            yield f"turn {n} ({turn.turn.turn_id}) is {turn.state}"


def _wrong_payloads(evidence: Evidence) -> Iterable[str]:
    """A payload is right if one completed run of that turn returned it."""
    for n, turn in evidence.turns:
        completed = {run.run for run in evidence.runs_by_turn[turn.turn.turn_id] if run.done_at}
        said = turn.final_payload
        is_right = isinstance(said, dict) and (said.get("n"), said.get("square")) == (n, n * n)
        if turn.state == "closed" and not (
            turn.outcome == "succeeded" and is_right and said["run"] in completed
        ):
            yield f"turn {n} ({turn.turn.turn_id}) is {turn.outcome} with {said}"


def closed_twice(feed: Sequence[EventEntry]) -> Iterable[str]:
    """A turn has one end in the ledger."""
    closings = Counter(event.subject_id for event in feed if event.event_type == "turn.finished")
    return [f"{turn} {count} times" for turn, count in closings.items() if count > 1]


_HELD_AFTER = {
    "turn.claimed": (False, True),
    "turn.claim_reconciled": (True, False),
    "turn.suspended": (True, False),
    "turn.finished": (True, False),
}


def broken_histories(feed: Sequence[EventEntry]) -> Iterable[str]:
    """In the ledger a claim follows only an end of the claim before."""
    held: Counter[str] = Counter()
    for event in feed:
        if event.event_type in _HELD_AFTER:
            before, after = _HELD_AFTER[event.event_type]
            if bool(held[event.subject_id]) is not before:
                yield f"{event.event_type} of {event.subject_id} at {event.ledger_seq}"
            held[event.subject_id] = int(after)


def _broken_sleeps(evidence: Evidence) -> Iterable[str]:
    """In the ledger a suspended turn is resumed once, and by the kernel not before its time."""
    suspended: dict[str, EventEntry] = {}
    for event in evidence.feed:
        if event.event_type == "turn.suspended":
            suspended[event.subject_id] = event
        elif event.event_type == "turn.resumed":
            slept = suspended.pop(event.subject_id, None)
            if slept is None:
                yield f"{event.subject_id} was resumed twice, at {event.ledger_seq}"
            elif event.actor_kind == "system" and _was_early(slept, event):
                yield f"{event.subject_id} was woken early, at {event.ledger_seq}"


def _was_early(slept: EventEntry, woken: EventEntry) -> bool:
    seconds = slept.annotations.get("resume_after_seconds", 0)
    return bool((woken.created_at - slept.created_at).total_seconds() < seconds)


# ---------------------------------------------------------------- runs


def _overlaps(evidence: Evidence) -> Iterable[str]:
    for turn_id, runs in evidence.runs_by_turn.items():
        for place, later in enumerate(runs):
            for earlier in runs[:place]:
                if earlier.last_at > later.started_at and not _has_just_woken(evidence, earlier, later):
                    late = earlier.last_at - later.started_at
                    yield f"{turn_id}: {earlier.worker} went on {late:.2f} s into the run of {later.worker}"


def _has_just_woken(evidence: Evidence, earlier: Run, later: Run) -> bool:
    """Whether the earlier run slept when the later began, and ended soon after it woke.

    A command whose worker alone slept did not sleep itself: it has no such excuse.
    """
    asleep = ["pause worker"] if earlier.is_command else ["pause worker", "pause worker alone"]
    return any(
        deed.what in asleep
        and deed.target == earlier.worker
        and deed.covers(later.started_at, margin_seconds=_WAKING_SECONDS)
        and deed.covers(earlier.last_at, margin_seconds=_WAKING_SECONDS)
        for deed in evidence.deeds
    )


def _why_repeated(evidence: Evidence) -> Iterable[str]:
    """For each completed run that another run of its turn followed: why it was not the last."""
    for runs in evidence.runs_by_turn.values():
        for run, following in pairwise(runs):
            if run.done_at is not None:
                yield _why(evidence, run, run.done_at, following)


def _why(evidence: Evidence, run: Run, done_at: float, following: Run) -> str:
    """What kept its result from the kernel, or from whoever had the turn next."""
    for deed in evidence.deeds:
        if deed.target == run.worker and deed.covers(done_at, margin_seconds=_WAKING_SECONDS):
            return f"done during or just after: {deed.what}"
        if deed.target == run.worker and 0 <= deed.began_at - done_at <= _STORING_SECONDS:
            return f"{deed.what} {deed.began_at - done_at:.2f} s after it was done"
    if following.machine != run.machine:
        return "claimed on another machine, which has another outbox"
    return "unexplained"


def _spell_again(evidence: Evidence) -> str:
    waits = list(_waits_for_another_run(evidence))
    if not waits:
        return "no turn was running"
    on_time = sum(wait <= AGAIN_SECONDS for wait, _ in waits)
    calm = [wait for wait, is_calm in waits if is_calm]
    calm_on_time = sum(wait <= AGAIN_SECONDS for wait in calm)
    times = [wait for wait, _ in waits]
    return (
        f"median {statistics.median(times):.1f} s, longest {max(times):.1f} s; within {AGAIN_SECONDS:g} s "
        f"{on_time} of {len(times)}, and {calm_on_time} of {len(calm)} where nothing else was down"
    )


def _waits_for_another_run(evidence: Evidence) -> Iterable[tuple[float, bool]]:
    """How long each turn of a killed worker waited, and whether kernels and database were well meanwhile."""
    for deed in evidence.deeds:
        if deed.what != "kill worker":
            continue
        for run in evidence.runs:
            if run.worker == deed.target and run.done_at is None and deed.began_at - run.last_at < 0.5:
                again = _next_run(evidence, run)
                if again is not None:
                    yield again - deed.began_at, _was_calm(evidence, deed.began_at, again)


def _next_run(evidence: Evidence, run: Run) -> float | None:
    later = (
        other.started_at for other in evidence.runs_by_turn[run.turn_id] if other.started_at > run.started_at
    )
    return next(later, None)


def _was_calm(evidence: Evidence, since: float, until: float) -> bool:
    return not any(
        ("kernel" in deed.what or "postgres" in deed.what)
        and deed.began_at <= until
        and (deed.ended_at or until) >= since
        for deed in evidence.deeds
    )


# ---------------------------------------------------------------- kernels


def _feed_differences(evidence: Evidence) -> Iterable[str]:
    wanted = [event.ledger_seq for event in evidence.feed]
    for number, followed in enumerate(evidence.followed, 1):
        order = [event.ledger_seq for event in followed]
        seen = Counter(order)
        yield from (f"follower {number} missed {seq}" for seq in wanted if not seen[seq])
        yield from (f"follower {number} saw {seq} {count} times" for seq, count in seen.items() if count > 1)
        if order != sorted(order):
            yield f"the order of events of follower {number}"


def _bad_statuses(evidence: Evidence) -> Iterable[str]:
    away = [deed for deed in evidence.deeds if deed.what == "restart postgres"]
    for at, status in evidence.statuses:
        if status != 503 or not any(deed.covers(at, margin_seconds=_RECOVERY_SECONDS) for deed in away):
            yield f"{status} at {at:.1f}"
