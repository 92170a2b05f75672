"""Events of a worker, for listeners, and the listener that logs them.

A listener is called with each event, in the worker's own task. It must be quick and must not block; an
exception that it raises is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, ClassVar

from attrs import asdict, field, frozen

from cgworker.deprecation import warn_renamed
from cgworker.printable import printable
from cgworker.wire.refs import AgentRef, TurnRef

logger: logging.Logger = logging.getLogger("cgworker")


@frozen(kw_only=True)
class Event:
    """An event of a worker; `level` is its log level."""

    level: ClassVar[int] = logging.INFO


@frozen(kw_only=True)
class WorkerStarted(Event):
    """A worker began to claim; the event names its limits."""

    agent: AgentRef
    kernel: str
    concurrency: int
    grace_seconds: float
    max_attempts: int
    time_limit_seconds: float | None


@frozen(kw_only=True)
class WorkerDraining(Event):
    """A worker has stopped claiming and waits for the turns it holds."""

    agent: AgentRef
    held_count: int
    grace_seconds: float


@frozen(kw_only=True)
class WorkerStopped(Event):
    """A worker has ended; `handed_back` names the turns that had not ended in the grace period."""

    agent: AgentRef
    handed_back: tuple[str, ...]


@frozen(kw_only=True)
class ClaimingFailed(Event):
    """Claiming fails; reported when the error changes, not at each try.

    Attributes:
        refused: whether the kernel refuses the agent's credential.
    """

    level: ClassVar[int] = logging.WARNING
    agent: AgentRef
    error: str
    retry_seconds: float
    refused: bool = False


@frozen(kw_only=True)
class ClaimingRecovered(Event):
    """Claiming works again."""

    agent: AgentRef


@frozen(kw_only=True)
class TurnEvent(Event):
    """Something happened to one turn."""

    turn: TurnRef
    agent: AgentRef
    attempt: int


@frozen(kw_only=True)
class TurnClaimed(TurnEvent):
    """The worker holds the turn; its lease is renewed in so many seconds."""

    kind: str
    renewal_seconds: float = 0.0


@frozen(kw_only=True)
class HandlerStarted(TurnEvent):
    """The turn's handler runs, so many seconds after the claim."""

    level: ClassVar[int] = logging.DEBUG
    seconds: float


@frozen(kw_only=True)
class LeaseRenewed(TurnEvent):
    """The lease was extended, and is renewed again in so many seconds."""

    level: ClassVar[int] = logging.DEBUG
    seconds_left: float
    renewal_seconds: float = 0.0


@frozen(kw_only=True)
class RenewalFailed(TurnEvent):
    """One renewal failed; this does no harm as long as the lease lasts."""

    level: ClassVar[int] = logging.WARNING
    error: str
    seconds_left: float


@frozen(kw_only=True)
class LeaseEnded(TurnEvent):
    """The lease ended or is about to; the work on the turn is ended too."""

    level: ClassVar[int] = logging.WARNING
    reason: str


@frozen(kw_only=True)
class LoopBlocked(Event):
    """The event loop did not run for a while; `stack` shows the code that blocked it."""

    level: ClassVar[int] = logging.WARNING
    seconds: float
    stack: str = ""


@frozen(kw_only=True)
class TurnInterrupted(TurnEvent):
    """A running handler was interrupted."""

    reason: str


@frozen(kw_only=True)
class HandlerRaised(TurnEvent):
    """A handler raised. The log has the traceback; the public report does not."""

    level: ClassVar[int] = logging.ERROR
    error: BaseException = field(repr=False)


@frozen(kw_only=True)
class HandlerStuck(TurnEvent):
    """A handler did not end when it had to; its slot was given to other work."""

    level: ClassVar[int] = logging.ERROR
    stuck_count: int


@frozen(kw_only=True)
class ResultKept(TurnEvent):
    """A result could not be delivered: it waits in the outbox, or is a dead letter for a person to see."""

    level: ClassVar[int] = logging.WARNING
    path: str
    reason: str


@frozen(kw_only=True)
class TurnSettled(TurnEvent):
    """The kernel has the outcome.

    Attributes:
        failure: the word for a failure, from its report.
        exit_status: the exit status of the handler's command, if any.
    """

    outcome: str
    seconds: float
    redelivered: bool = False
    failure: str = ""
    exit_status: int | None = None


@frozen(kw_only=True)
class TurnGivenUp(TurnEvent):
    """The outcome could not be settled; another worker may have the turn."""

    level: ClassVar[int] = logging.WARNING
    outcome: str | None
    reason: str


@frozen(kw_only=True)
class TurnResumed(Event):
    """A suspended turn of this worker's agent was resumed."""

    turn: TurnRef
    reason: str


Listener = Callable[[Event], None]


def log_event(event: Event) -> None:
    """Log an event in one line, with its facts also as attributes of the log record."""
    if not logger.isEnabledFor(event.level):
        return
    facts = {name: _spell(value) for name, value in asdict(event, recurse=False).items()}
    error = facts.pop("error", None)
    raised = error if isinstance(error, BaseException) else None
    if error is not None and raised is None:
        facts["error"] = error
    text = " ".join(
        [f"{name}={printable(str(value))}" for name, value in facts.items() if value not in (None, "")]
    )
    logger.log(
        event.level,
        "%s %s",
        type(event).__name__,
        text,
        exc_info=raised,
        extra={f"cg_{name}": value for name, value in facts.items()},
    )


_NO_TURN: Mapping[str, Any] = MappingProxyType({"cg_turn": "", "cg_agent": "", "cg_attempt": ""})
_worked_turn: ContextVar[Mapping[str, Any]] = ContextVar("cgworker_turn", default=_NO_TURN)


def mark_logs(*, turn: TurnRef, agent: AgentRef, attempt: int) -> None:
    """Mark what is logged in this context from now on, and in tasks and threads started there, as a turn's.

    Args:
        turn: the turn.
        agent: the agent that works it.
        attempt: the number of the attempt.
    """
    _worked_turn.set({"cg_turn": turn, "cg_agent": agent, "cg_attempt": attempt})


def is_marked() -> bool:
    """Whether what is logged in this context is marked as a turn's: it is a handler's, or of a task of it."""
    return _worked_turn.get() is not _NO_TURN


class TurnLogFilter(logging.Filter):
    """Gives each log record the turn it is about: `handler.addFilter(TurnLogFilter())`.

    Added to a logging handler, it sets `cg_turn`, `cg_agent` and `cg_attempt` on the lines that a handler of
    turns logs, by whatever logger; they are empty where no turn is worked. It lets every record through.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record."""
        for name, value in _worked_turn.get().items():
            vars(record).setdefault(name, value if isinstance(value, int) else str(value))
        return True


def emit(listener: Listener | None, event: Event) -> None:
    """Log an event and call the listener. An exception of the listener is logged."""
    log_event(event)
    if listener is None:
        return
    try:
        listener(event)
    except KeyboardInterrupt:
        raise
    except BaseException:
        logger.exception("the listener failed on %s", type(event).__name__)


def combine_listeners(first: Listener | None, second: Listener) -> Listener:
    """Return a listener that calls two; the second is called even if the first raises."""
    if first is None:
        return second

    def tell(event: Event) -> None:
        try:
            first(event)
        finally:
            second(event)

    return tell


def _spell(value: object) -> object:
    return str(value) if isinstance(value, AgentRef | TurnRef) else value


def __getattr__(name: str) -> Any:
    if name == "LeaseLost":  # the name of an error too, `cgworker.LeaseLost`
        warn_renamed("cgworker.events.LeaseLost", "LeaseEnded")
        return LeaseEnded
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
