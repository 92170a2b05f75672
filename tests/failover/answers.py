"""What the clients of a drill were answered, and when: their side of the story, which must come true."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from attrs import define, field, frozen


@define
class Claim:
    """A claim that was answered.

    Attributes:
        turn_id: the turn.
        attempt: the number of the claim among those of the turn, by the kernel.
        asked_at: when it was asked for.
        answered_at: when the answer came.
        lease_seconds: the length of its lease, which begins after it was asked for.
        renewed_at: when its last answered renewal was asked for.
        ended_at: when a call that ends it was first sent; None if none was.
    """

    turn_id: str
    attempt: int
    asked_at: float
    answered_at: float
    lease_seconds: float
    renewed_at: float = 0.0
    ended_at: float | None = None

    @property
    def held_until(self) -> float:
        """Until when nobody else may hold the turn, at the least."""
        leased_at = max(self.asked_at, self.renewed_at)
        return min(self.ended_at or float("inf"), leased_at + self.lease_seconds)


@frozen
class Finish:
    """A finish that was answered, with the payload that it gave the turn."""

    turn_id: str
    payload: Any
    at: float


@define
class Run:
    """One run of a worker's handler."""

    turn_id: str
    started_at: float
    ended_at: float = float("inf")


@define
class Answers:
    """The journal of the clients; times are `time.monotonic()`, which all processes of a machine share.

    Attributes:
        dispatched: the turns of answered dispatches, by number, and when they were answered.
        claims: the answered claims, in the order of their answers.
        finishes: the answered finishes.
        runs: the runs of handlers, in the order of their starts.
        refused: how often what was refused or not answered.
    """

    dispatched: dict[int, tuple[str, float]] = field(factory=dict)
    claims: list[Claim] = field(factory=list)
    finishes: list[Finish] = field(factory=list)
    runs: list[Run] = field(factory=list)
    refused: Counter[str] = field(factory=Counter)
    _claim_by_token: dict[str, Claim] = field(factory=dict)
    _run_by_name: dict[str, Run] = field(factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Take a line of the workers' journal."""
        match line["word"]:
            case "claimed":
                claim = Claim(line["turn"], line["attempt"], line["asked_at"], line["at"], line["lease"])
                self._claim_by_token[line["claim"]] = claim
                self.claims.append(claim)
            case "renewed":
                claim = self._claim_by_token[line["claim"]]
                claim.renewed_at = max(claim.renewed_at, line["asked_at"])
            case "settling":
                claim = self._claim_by_token[line["claim"]]
                claim.ended_at = claim.ended_at or line["at"]
            case "finished":
                self.finishes.append(Finish(line["turn"], line["payload"], line["at"]))
            case "start":
                run = self._run_by_name[line["run"]] = Run(line["turn"], line["at"])
                self.runs.append(run)
            case "end":
                self._run_by_name[line["run"]].ended_at = line["at"]
            case "refused":
                self.refused[line["what"]] += 1

    def first_claim_after(self, at: float) -> float | None:
        """When the first claim was answered that was asked for after a time."""
        return min((claim.answered_at for claim in self.claims if claim.asked_at >= at), default=None)


def read_workers(journal: Path, answers: Answers) -> None:
    """Take what the workers wrote down, in the order in which they did."""
    for line in journal.read_text().splitlines():
        answers.take(json.loads(line))
