"""Results of the commands that work turns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from attrs import field, frozen

from cgworker.cli.results import TurnResult
from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import CardBoxRef

# ---------------------------------------------------------------- claims


@frozen(kw_only=True)
class NothingClaimed:
    """No turn was claimed."""

    claimed: bool = False


@frozen(kw_only=True)
class ClaimWithContext:
    """A claimed turn with its records."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    claim: Mapping[str, Any] = field(repr=False)
    context: TurnContext


@frozen(kw_only=True)
class ContextNotRead:
    """A claimed turn whose context could not be read: it was suspended again."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    claim: Mapping[str, Any] = field(repr=False)
    context: None = None
    context_fetch_failed: bool = True
    context_error: str
    suspended_after_failure: bool
    suspend_error: str | Absent = ABSENT
    claim_file: str | Absent = ABSENT

    @property
    def exit_status(self) -> int:
        """Return 1 if a command was to be run on the turn, and was not."""
        return int(self.claim_file is not ABSENT)


@frozen(kw_only=True)
class ClaimRun:
    """A claimed turn that a command settled itself."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    claim: Mapping[str, Any] = field(repr=False)
    claim_file: str
    context_file: str
    child_exit_code: int
    lease_lost: bool = False
    lease_error: str | Absent = ABSENT

    @property
    def exit_status(self) -> int:
        """Return the command's exit status, 256 - N for the signal N; 1 if the lease was lost."""
        return 1 if self.lease_lost else self.child_exit_code % 256


@frozen(kw_only=True)
class RenewedClaim:
    """A renewed claim."""

    project_id: str
    turn_id: str
    agent_id: str
    server_time: datetime
    expires_at: datetime
    recommended_interval_seconds: float


@frozen(kw_only=True)
class AppendedRecord:
    """A record that was added under a claim."""

    project_id: str
    turn_id: str
    agent_id: str
    role: str
    record: CardBoxRef


@frozen(kw_only=True)
class DispatchedChild:
    """A turn that was dispatched under the claim of its parent."""

    project_id: str
    turn_id: str
    agent_id: str
    parent_turn_id: str
    dispatch_key: str


# ---------------------------------------------------------------- workers


@frozen(kw_only=True)
class WorkedTurn:
    """A turn that a worker worked; fields that do not apply are absent."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    context_file: str | None = None
    child_exit_code: int | None = None
    lease_lost: bool = False
    lease_error: str | Absent | None = ABSENT
    redelivered: bool | Absent = ABSENT
    not_settled: str | Absent | None = ABSENT
    kept_at: str | Absent | None = ABSENT
    suspended: bool | Absent = ABSENT
    reason: str | Absent = ABSENT
    note: str | Absent = ABSENT
    finished: bool | Absent = ABSENT
    outcome: str | Absent = ABSENT
    failure_payload: Any = ABSENT
    turn: TurnResult | Absent = ABSENT

    @property
    def exit_status(self) -> int:
        """Return 0 if the turn succeeded, was stopped or suspended, and else 1 (command line 1)."""
        return int(self.suspended is ABSENT and self.outcome not in ("succeeded", "stopped"))


@frozen(kw_only=True)
class UnreadTurn:
    """A turn that a worker suspended because its context could not be read."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    context: None = None
    context_fetch_failed: bool = True
    context_error: str
    suspended_after_failure: bool
    suspend_error: str | Absent | None = ABSENT

    @property
    def exit_status(self) -> int:
        """Return 1: the worker could not work the turn."""
        return 1


@frozen(kw_only=True)
class LoopResult:
    """What a loop did, and its last turn."""

    iterations: int
    claimed_count: int
    last: WorkedTurn | UnreadTurn | NothingClaimed | None


@frozen(kw_only=True)
class FailedLoop(LoopResult):
    """A loop that --exit-on-failure ended."""

    exit_status: ClassVar[int] = 1


# ---------------------------------------------------------------- programs under test


@frozen(kw_only=True)
class CheckCard:
    """Whether a command keeps the command contract; each check is a `testing.checking.Check`."""

    command: tuple[str, ...]
    passed_count: int
    failed_count: int
    not_shown_count: int
    checks: tuple[Any, ...]

    @property
    def exit_status(self) -> int:
        """Return 1 if a check failed."""
        return int(self.failed_count > 0)


@frozen(kw_only=True)
class Replay:
    """The result of a past turn, and that of doing it again."""

    project_id: str
    turn_id: str
    agent_id: str
    same: bool
    then: Mapping[str, Any]
    now: Mapping[str, Any]
    difference: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """Return 1 if the results differ."""
        return int(not self.same)
