"""Try a turn again after its handler has failed, as often as its `Retries` allow (difference 33)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import AnswerTimeout, QuestionDeclined
from cgworker.handlers import BaseCommandHandler, Handler
from cgworker.lease import call_until_lease_ends
from cgworker.outcome import RETRY_REASON, Failed, Outcome, Suspended
from cgworker.turn import Turn
from cgworker.worker.retries import Retries
from cgworker.worker.suspension import cause_of_suspension


async def retry_or_fail(
    turn: Turn, retries: Retries, report: Mapping[str, Any], raised: BaseException | None = None
) -> Outcome:
    """Return what becomes of a turn whose handler has failed.

    Args:
        turn: the turn, under a claim that holds.
        retries: the policy of its handler.
        report: the error report.
        raised: what the handler raised; None if a command failed.

    Returns:
        The suspension until the next retry; the failure `retries_exhausted` if there is none.

    Raises:
        LeaseLost: the kernel did not say how often the turn was retried before the lease ended.
    """
    is_final = isinstance(raised, QuestionDeclined | AnswerTimeout)  # later attempts read the same
    made = await call_until_lease_ends(lambda: _count_retries(turn), turn.lease)
    if is_final or not retries.allows(made + 1, raised):
        return Failed({"error": "retries_exhausted", "retries": made, "last": dict(report)})
    return Suspended(
        RETRY_REASON,
        f"retry {made + 1} of {retries.count}: {report.get('message', report['error'])}",
        annotations={"retry": made + 1, "error": dict(report)},
        resume_after_seconds=retries.seconds_before(made + 1),
    )


def report_of_command(handler: Handler | None, outcome: Outcome | None) -> Mapping[str, Any] | None:
    """Return the error report of a command that ended with a failure status; None for any other outcome."""
    if not isinstance(handler, BaseCommandHandler) or not isinstance(outcome, Failed):
        return None
    report = outcome.payload
    has_status = isinstance(report, Mapping) and report.get("child_exit_code") not in (0, None)
    return report if has_status and "error" in report else None


async def _count_retries(turn: Turn) -> int:
    """Return how often the turn was retried, by its feed."""
    made = 0
    async for event in turn.kernel.turns.events(turn.ref):
        if event.event_type == "turn.suspended" and event.subject_id == turn.ref.turn_id:
            number = cause_of_suspension(event).annotations.get("retry")
            made = max(made, number) if isinstance(number, int) else made
    return made
