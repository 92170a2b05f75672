"""What must be true after a failover: what clients were answered, against what the new primary has."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import frozen

from cgworker.wire.projections import EventEntry
from tests.failover.answers import Answers, Claim, Finish, Run
from tests.soak.processes import Servant
from tests.soak.verdict import Verdict, broken_histories, closed_twice

AGAIN_SECONDS = 2.0
"""How long after the promotion claims may begin again."""

LIMIT_SECONDS = 30.0
"""After which the drill calls it a fault, on a machine as slow as it may be."""


@frozen
class ClosedTurn:
    """A turn that is closed in a database: its input, and its final payload."""

    input: Any
    payload: Any


@frozen(kw_only=True)
class Evidence:
    """All that is known at the end.

    Attributes:
        answers: what the clients and the workers were answered.
        feed: the ledger of the server that is the primary now.
        closed: the closed turns there, after the load.
        closed_in_the_end: the closed turns there, after every dispatch was repeated.
        changed_dispatches: the numbers of dispatches that made another turn when they were repeated.
        servants: the processes of kernels and workers.
        ended_badly: the workers that did not drain when they were told to.
        results_kept: the files of results that workers still keep: the lease ended, and the turn was worked
            by a worker with another address of the kernel, which has no use for them.
        killed_at: when the primary was killed, or what was done to it was done.
        promoted_at: when there was another primary.
        closed_on_old: the turns that are closed on the old primary.
    """

    answers: Answers
    feed: Sequence[EventEntry]
    closed: Mapping[str, ClosedTurn]
    closed_in_the_end: Mapping[str, ClosedTurn]
    changed_dispatches: Sequence[int]
    servants: Sequence[Servant]
    ended_badly: Sequence[str]
    results_kept: Sequence[str]
    killed_at: float
    promoted_at: float
    closed_on_old: Mapping[str, ClosedTurn] = {}


def judge(evidence: Evidence, *, kept_before: float | None = None) -> Verdict:
    """Check the promises.

    Args:
        evidence: what is known.
        kept_before: with an asynchronous standby, the time before which nothing answered may be lost, and
            after which something must be; None if nothing may be lost at all.
    """
    verdict, answers = Verdict(), evidence.answers
    verdict.must_be_empty("turns closed twice", closed_twice(evidence.feed))
    verdict.must_be_empty("claims of a held turn, settlings of a free one", broken_histories(evidence.feed))
    wrong = [turn for turn, found in evidence.closed_in_the_end.items() if not _is_own(found)]
    verdict.must_be_empty("turns closed with the result of another", wrong)
    spawned = {event.subject_id for event in evidence.feed if event.event_type == "turn.spawned"}
    verdict.must_be_empty("turns not closed in the end", spawned - evidence.closed_in_the_end.keys())
    numbers = {found.input["n"] for found in evidence.closed_in_the_end.values()}
    verdict.must_be_empty("dispatches without a closed turn", answers.dispatched.keys() - numbers)
    ended = [f"{one.incarnation} with status {status}" for one in evidence.servants for _, status in one.left]
    verdict.must_be_empty("kernels and workers that ended", [*ended, *evidence.ended_badly])
    held, overlaps = list(held_by_two(answers.claims)), list(overlapping(answers.runs))
    if kept_before is None:
        verdict.must_be_empty("answered dispatches lost", evidence.changed_dispatches)
        verdict.must_be_empty("answered finishes lost", _lost(evidence))
        verdict.must_be_empty("claims held by two", held)
        verdict.must_be_empty("handlers of one turn that overlap", overlaps)
        elsewhere = evidence.closed_on_old.items()
        alone = [turn for turn, said in elsewhere if evidence.closed.get(turn) != said]
        verdict.must_be_empty("turns seen closed on the old primary alone", alone)
    else:
        _add_losses(verdict, evidence, kept_before)
        verdict.figures["claims held by two, handlers that overlap"] = f"{len(held)}, {len(overlaps)}"
    _add_times(verdict, evidence)
    verdict.figures["files of results that came too late"] = str(len(evidence.results_kept))
    refused = ", ".join(f"{what} {count}" for what, count in sorted(answers.refused.items()))
    verdict.figures["refused"] = refused or "nothing"
    return verdict


def _is_own(found: ClosedTurn) -> bool:
    """Whether a turn has the result of a run with its own input; numbers of lost turns are given again."""
    return isinstance(found.payload, dict) and bool(found.payload.get("n") == found.input["n"])


def _lost(evidence: Evidence) -> list[Finish]:
    """The answered finishes that the primary does not have."""
    has = {turn: found.payload for turn, found in evidence.closed.items()}
    return [finish for finish in evidence.answers.finishes if has.get(finish.turn_id) != finish.payload]


def _add_losses(verdict: Verdict, evidence: Evidence, kept_before: float) -> None:
    answers, lost = evidence.answers, _lost(evidence)
    changed = [answers.dispatched[number] for number in evidence.changed_dispatches]
    before = [turn for turn, at in [*changed, *((one.turn_id, one.at) for one in lost)] if at < kept_before]
    verdict.must_be_empty("lost, though answered before the standby was cut off", before)
    verdict.must_be_empty("drills that lost nothing", [] if lost else ["this one"])
    lost_at = min((one.at for one in lost), default=evidence.killed_at)
    verdict.figures["seconds from the first lost finish to the kill"] = f"{evidence.killed_at - lost_at:.2f}"
    verdict.figures["lost: dispatches, finishes"] = f"{len(changed)}, {len(lost)}"
    payloads = [found.payload for found in evidence.closed_in_the_end.values()]
    again = {payload["n"] for payload in payloads if payload} & {one.payload["n"] for one in lost}
    verdict.figures["of the lost finishes: worked again"] = str(len(again))


def held_by_two(claims: Sequence[Claim]) -> Iterable[str]:
    """Of a turn one claim is held at a time: the next is answered when the one before is over."""
    by_turn: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_turn[claim.turn_id].append(claim)
    for turn, some in by_turn.items():
        for earlier, later in pairwise(sorted(some, key=lambda claim: claim.answered_at)):
            if later.attempt == earlier.attempt:
                yield f"{turn}: claim {later.attempt} was given twice"
            if later.answered_at < earlier.held_until:
                early = earlier.held_until - later.answered_at
                yield f"{turn}: claimed {early:.2f} s before the lease was over"


def overlapping(runs: Sequence[Run]) -> Iterable[str]:
    """Of a turn one handler runs at a time."""
    by_turn: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_turn[run.turn_id].append(run)
    for turn, some in by_turn.items():
        for earlier, later in pairwise(sorted(some, key=lambda run: run.started_at)):
            if later.started_at < earlier.ended_at:
                yield f"{turn}: run again {earlier.ended_at - later.started_at:.2f} s before the end"


def _add_times(verdict: Verdict, evidence: Evidence) -> None:
    answers, killed_at = evidence.answers, evidence.killed_at
    again_at = answers.first_claim_after(max(killed_at, evidence.promoted_at))
    again_at = min(again_at or float("inf"), answers.first_claim_after(killed_at) or float("inf"))
    seconds = again_at - evidence.promoted_at
    promotion = evidence.promoted_at - killed_at
    late = [] if seconds <= LIMIT_SECONDS else [f"{seconds:.1f} s after the promotion"]
    verdict.must_be_empty("claims not again in time", late)
    before = [finish for finish in answers.finishes if finish.at < killed_at]
    began_at = min((at for _, at in answers.dispatched.values()), default=killed_at)
    verdict.figures["seconds from the promotion to claims"] = f"{seconds:.2f}"
    verdict.figures["seconds from the kill to the promotion"] = f"{promotion:.2f}"
    verdict.figures["turns closed in the busiest second"] = str(_most_in_a_second(answers.finishes))
    verdict.figures["turns a second before the kill"] = f"{len(before) / max(0.1, killed_at - began_at):.0f}"
    counts = (answers.dispatched, answers.claims, answers.runs, answers.finishes)
    verdict.figures["dispatches, claims, runs, finishes answered"] = ", ".join(map(str, map(len, counts)))


def _most_in_a_second(finishes: Sequence[Finish]) -> int:
    times = sorted(finish.at for finish in finishes)
    return max((bisect_left(times, at + 1.0) - place for place, at in enumerate(times)), default=0)
