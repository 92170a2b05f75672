"""Try a turn again after its handler has failed, as often as its `Retries` allow (difference 33)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import AnswerTimeout, QuestionDeclined
from cgworker.handlers import BaseCommandHandler, Handler
from cgworker.lease import call_until_lease_ends
from cgworker.outcome import RETRY_REASON, Failed, Outcome, Suspended
from cgworker.turn import Turn
from cgworker.worker.context import RunContext
from cgworker.worker.redaction import error_report
from cgworker.worker.retries import Retries
from cgworker.worker.suspension import cause_of_suspension


async def outcome_of_error(context: RunContext, turn: Turn, raised: BaseException) -> Outcome:
    """Return what becomes of a turn whose handler raised.

    Args:
        context: what the attempts of the worker share.
        turn: the turn, under a claim that holds.
        raised: what the handler raised.

    Raises:
        LeaseLost: the kernel did not say how often the turn was retried before the lease ended.
    """
    if turn.suspension is not None:  # it counts even if the handler raised something else afterwards
        return turn.suspension
    report = error_report(raised, turn.secrets)
    if (retries := _retries_of(context, turn)) is not None:
        return await _retry_or_fail(turn, retries, report, raised)
    if context.options.on_error == "suspend":
        return Suspended("handler_error", f"{report['type']}: {report['message']}")
    return Failed(report)


async def outcome_of_failure(context: RunContext, turn: Turn, failed: Failed) -> Outcome:
    """Return what becomes of a turn whose handler returned a failure: that of a command is retried.

    Args:
        context: what the attempts of the worker share.
        turn: the turn, under a claim that holds.
        failed: the failure.

    Raises:
        LeaseLost: the kernel did not say how often the turn was retried before the lease ended.
    """
    if (retries := _retries_of(context, turn)) is None:
        return failed
    report = _report_of_command(context.routes.find(turn.kind), failed)
    return failed if report is None else await _retry_or_fail(turn, retries, report)


def _retries_of(context: RunContext, turn: Turn) -> Retries | None:
    """Return the retry policy of the handler; None without one, and while the turn is interrupted."""
    if turn.interruption is not None:
        return None
    return context.routes.retries_for(turn.kind) or context.options.retries


async def _retry_or_fail(
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


def _report_of_command(handler: Handler | None, failed: Failed) -> Mapping[str, Any] | None:
    """Return the error report of a command that ended with a failure status; None for any other failure."""
    if not isinstance(handler, BaseCommandHandler):
        return None
    report = failed.payload
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
