"""What the clients of a drill were answered, and when: their side of the story, which must come true."""

from __future__ import annotations

import time
from collections import Counter

from attrs import define, field, frozen


@define
class Claim:
    """A claim that was answered.

    Attributes:
        turn_id: the turn.
        attempt: the number of the claim among those of the turn, by the kernel.
        asked_at: when it was asked for. Its lease begins later.
        answered_at: when the answer came.
        lease_seconds: the length of its lease.
        ended_at: when a call that ends it was first sent; None if none was.
    """

    turn_id: str
    attempt: int
    asked_at: float
    answered_at: float
    lease_seconds: float
    ended_at: float | None = None

    @property
    def held_until(self) -> float:
        """Until when nobody else may hold the turn, at the least."""
        return min(self.ended_at or float("inf"), self.asked_at + self.lease_seconds)


@frozen
class Finish:
    """A finish that was answered, with the payload that it gave the turn."""

    turn_id: str
    payload: object
    at: float


@define
class Answers:
    """The journal of the clients; times are `time.monotonic()`.

    Attributes:
        dispatched: the turns of answered dispatches, by number, and when they were answered.
        claims: the answered claims, in the order of their answers.
        finishes: the answered finishes.
        refused: how often what was refused or not answered.
    """

    dispatched: dict[int, tuple[str, float]] = field(factory=dict)
    claims: list[Claim] = field(factory=list)
    finishes: list[Finish] = field(factory=list)
    refused: Counter[str] = field(factory=Counter)

    def claimed(self, turn_id: str, attempt: int, lease_seconds: float, *, asked_at: float) -> Claim:
        """Note a claim that was answered just now."""
        claim = Claim(turn_id, attempt, asked_at, time.monotonic(), lease_seconds)
        self.claims.append(claim)
        return claim

    def first_claim_after(self, at: float) -> float | None:
        """When the first claim was answered that was asked for after a time."""
        return min((claim.answered_at for claim in self.claims if claim.asked_at >= at), default=None)
