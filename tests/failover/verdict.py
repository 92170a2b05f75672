"""What must be true after a failover: what clients were answered, against what the new primary has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import frozen

from cgworker.wire.projections import EventEntry
from tests.failover.answers import Answers, Claim
from tests.soak.processes import Servant
from tests.soak.verdict import Verdict, broken_histories, closed_twice

AGAIN_SECONDS = 2.0
"""How long after the promotion claims may begin again."""

LIMIT_SECONDS = 30.0
"""After which the drill calls it a fault, on a machine as slow as it may be."""


@frozen(kw_only=True)
class Evidence:
    """All that is known at the end.

    Attributes:
        answers: what the clients were answered.
        feed: the ledger of the server that is the primary now.
        final_payloads: the final payloads of the closed turns there.
        kernels: the kernels' processes.
        killed_at: when the primary was killed, or what was done to it was done.
        promoted_at: when there was another primary.
        old_payloads: the final payloads of the turns that are closed on the old primary.
    """

    answers: Answers
    feed: Sequence[EventEntry]
    final_payloads: Mapping[str, object]
    kernels: Sequence[Servant]
    killed_at: float
    promoted_at: float
    old_payloads: Mapping[str, object] = {}


def judge(evidence: Evidence, *, is_synchronous: bool = True) -> Verdict:
    """Check the promises.

    Args:
        evidence: what is known.
        is_synchronous: whether the standby was, so that nothing answered may be lost; else it is counted.
    """
    verdict, answers = Verdict(), evidence.answers
    spawned = {event.subject_id for event in evidence.feed if event.event_type == "turn.spawned"}
    lost_turns = [turn for turn, _ in answers.dispatched.values() if turn not in spawned]
    lost_finishes = [
        finish.turn_id
        for finish in answers.finishes
        if evidence.final_payloads.get(finish.turn_id) != finish.payload
    ]
    if is_synchronous:
        verdict.must_be_empty("answered dispatches lost", lost_turns)
        verdict.must_be_empty("answered finishes lost", lost_finishes)
        verdict.must_be_empty("claims held by two", held_by_two(answers.claims))
        elsewhere = evidence.old_payloads.items()
        alone = [turn for turn, said in elsewhere if evidence.final_payloads.get(turn) != said]
        verdict.must_be_empty("turns seen closed on the old primary alone", alone)
        unfinished = spawned - evidence.final_payloads.keys()
        verdict.must_be_empty("turns not closed in the end", unfinished)
    else:
        verdict.figures["lost: dispatches, finishes"] = f"{len(lost_turns)}, {len(lost_finishes)}"
    verdict.must_be_empty("turns closed twice", closed_twice(evidence.feed))
    verdict.must_be_empty("claims of a held turn, settlings of a free one", broken_histories(evidence.feed))
    ended = [f"{one.incarnation} with status {status}" for one in evidence.kernels for _, status in one.left]
    verdict.must_be_empty("kernels that ended", ended)
    _add_times(verdict, evidence)
    refused = ", ".join(f"{what} {count}" for what, count in sorted(answers.refused.items()))
    verdict.figures["refused"] = refused or "nothing"
    return verdict


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
    verdict.figures["turns a second before the kill"] = f"{len(before) / max(0.1, killed_at - began_at):.0f}"
    verdict.figures["turns, claims, finishes answered"] = (
        f"{len(answers.dispatched)}, {len(answers.claims)}, {len(answers.finishes)}"
    )
