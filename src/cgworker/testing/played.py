"""What `play()` tells of a handler: its records, children and questions, and what became of the turn."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from cgworker.lease import Interruption
from cgworker.outcome import Outcome, Suspended
from cgworker.wire.absent import ABSENT
from cgworker.worker import TurnReport


@frozen
class PlayedRecord:
    """A record that the handler appended."""

    role: str
    payload: Any


@frozen
class PlayedChild:
    """A turn that the handler gave to another agent.

    Attributes:
        name: what the handler calls it.
        agent_id: whom it was given to.
        input: what it was given.
        kind: its turn kind.
    """

    name: str
    agent_id: str
    input: Any
    kind: str


@frozen
class PlayedQuestion:
    """A question that the handler asked, and the JSON schema of its answer."""

    key: str
    question: Any
    schema: Any


@frozen(kw_only=True)
class Played:
    """What a handler did with a turn.

    Attributes:
        report: what the worker says of the last attempt.
        records: what was appended, the deliverable apart.
        children: what was dispatched.
        questions: what was asked.
        entered_count: how often the handler began, from the top each time.
        error: what it raised, if it did.
    """

    report: TurnReport
    records: tuple[PlayedRecord, ...]
    children: tuple[PlayedChild, ...]
    questions: tuple[PlayedQuestion, ...]
    entered_count: int
    error: BaseException | None = field(default=None, eq=False)

    @property
    def outcome(self) -> Outcome | None:
        """What became of the turn; None if its lease was lost before there was anything to settle."""
        return self.report.outcome

    @property
    def payload(self) -> Any:
        """The final payload; None if there is none."""
        outcome = self.outcome
        if outcome is None or isinstance(outcome, Suspended) or outcome.payload is ABSENT:
            return None
        return outcome.payload

    @property
    def suspended_reason(self) -> str | None:
        """Why the turn is suspended, if it is."""
        return self.outcome.reason if isinstance(self.outcome, Suspended) else None

    @property
    def interruption(self) -> Interruption | None:
        """Why the handler was ended, if it was."""
        return self.report.interruption
