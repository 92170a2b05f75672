"""`TurnReport`: the result of one attempt at a turn."""

from __future__ import annotations

from attrs import field, frozen

from cgworker.lease import Interruption
from cgworker.outcome import Outcome
from cgworker.wire.refs import TurnRef


@frozen(kw_only=True)
class TurnReport:
    """What became of one attempt at a turn.

    Attributes:
        turn: the turn.
        kind: its turn kind; None if its context could not be read.
        attempt: the number of the attempt, from 1.
        outcome: what was settled, or would have been; None if there was nothing to settle.
        settled: whether the kernel has the outcome.
        interruption: why the handler was ended early; None if it was not.
        redelivered: whether the outcome came from the outbox, without a run of the handler.
        reason: why the outcome is not settled, if it is not.
        kept_at: the file in which an unsettled result waits.
        seconds: how long the attempt took, from the claim on.
        error: the error that ends the worker, if any (difference 17).
    """

    turn: TurnRef
    kind: str | None = None
    attempt: int = 1
    outcome: Outcome | None = None
    settled: bool = False
    interruption: Interruption | None = None
    redelivered: bool = False
    reason: str | None = None
    kept_at: str | None = None
    seconds: float = 0.0
    error: BaseException | None = field(default=None, eq=False)
