"""What the commands that work turns answer: claims taken by hand, and workers."""

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
    """There was no work."""

    claimed: bool = False


@frozen(kw_only=True)
class ClaimWithContext:
    """A claimed turn."""

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
        """1 where a command was to be run on the turn, and was not."""
        return int(self.claim_file is not ABSENT)


@frozen(kw_only=True)
class ClaimRun:
    """A claimed turn that a command worked by itself."""

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
        """The command's own, as a shell would never show it: 256 - N for the signal N."""
        return 1 if self.lease_lost else self.child_exit_code % 256


@frozen(kw_only=True)
class RenewedClaim:
    """A claim with more time."""

    project_id: str
    turn_id: str
    agent_id: str
    server_time: datetime
    expires_at: datetime
    recommended_interval_seconds: float


@frozen(kw_only=True)
class AppendedRecord:
    """A record added under a claim."""

    project_id: str
    turn_id: str
    agent_id: str
    role: str
    record: CardBoxRef


@frozen(kw_only=True)
class DispatchedChild:
    """A turn given to an agent under the claim of its parent."""

    project_id: str
    turn_id: str
    agent_id: str
    parent_turn_id: str
    dispatch_key: str


# ---------------------------------------------------------------- workers


@frozen(kw_only=True)
class WorkedTurn:
    """A turn that a worker worked; what does not apply to how it ended is left out."""

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
        """1 unless the turn was closed well or suspended (command line 1)."""
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
        """The worker did not do what it is for."""
        return 1


@frozen(kw_only=True)
class LoopResult:
    """How a loop went, and how its last turn did."""

    iterations: int
    claimed_count: int
    last: WorkedTurn | UnreadTurn | NothingClaimed | None


@frozen(kw_only=True)
class FailedLoop(LoopResult):
    """A loop that was told to end at the first failure, and did."""

    exit_status: ClassVar[int] = 1


# ---------------------------------------------------------------- programs under test


@frozen(kw_only=True)
class Card:
    """Whether a command keeps its contract; each check is a `testing.checking.Check`."""

    command: tuple[str, ...]
    passed_count: int
    failed_count: int
    not_shown_count: int
    checks: tuple[Any, ...]

    @property
    def exit_status(self) -> int:
        """1 if a check failed."""
        return int(self.failed_count > 0)


@frozen(kw_only=True)
class Replay:
    """A past turn done again, beside what it came to then."""

    project_id: str
    turn_id: str
    agent_id: str
    same: bool
    then: Mapping[str, Any]
    now: Mapping[str, Any]
    difference: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """1 if it came to something else."""
        return int(not self.same)
