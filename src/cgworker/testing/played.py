"""The result of `play()`: what a handler did with a turn."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from cgworker.lease import Interruption
from cgworker.outcome import Outcome, Suspended
from cgworker.wire.absent import ABSENT
from cgworker.worker import TurnReport


@frozen
class PlayedRecord:
    """A record that the handler appended.

    Attributes:
        role: the record's role.
        payload: the record's content.
    """

    role: str
    payload: Any


@frozen
class PlayedChild:
    """A turn that the handler dispatched to another agent.

    Attributes:
        name: the handler's name for it.
        agent_id: the agent that got the turn.
        input: the turn's input.
        kind: the turn kind.
    """

    name: str
    agent_id: str
    input: Any
    kind: str


@frozen
class PlayedQuestion:
    """A question that the handler asked, and the JSON Schema of its answer."""

    key: str
    question: Any
    schema: Any


@frozen(kw_only=True)
class Played:
    """What a handler did with a turn.

    Attributes:
        report: the worker's report of the last attempt.
        records: the records it appended, except the deliverable.
        children: the turns it dispatched.
        questions: the questions it asked.
        entered_count: how often the handler started; it starts from the top each time.
        error: the exception it raised; None if it raised none.
    """

    report: TurnReport
    records: tuple[PlayedRecord, ...]
    children: tuple[PlayedChild, ...]
    questions: tuple[PlayedQuestion, ...]
    entered_count: int
    error: BaseException | None = field(default=None, eq=False)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the turn; None if its lease was lost before there was one."""
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
        """The reason of the suspension; None if the turn is not suspended."""
        return self.outcome.reason if isinstance(self.outcome, Suspended) else None

    @property
    def interruption(self) -> Interruption | None:
        """Why the handler was ended; None if it was not."""
        return self.report.interruption
