"""What commands answer: their fields, in order, are the `result` of the envelope (cli.md 3).

Where a wire type says it all, a command returns that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from attrs import field, frozen
from cattrs.gen import make_dict_unstructure_fn, override

from cgworker.wire.admission import Invite
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.converter import ABSENT, ANSWERS, Absent
from cgworker.wire.credentials import CredentialSummary
from cgworker.wire.projections import OfferEntry
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import CardBoxRef
from cgworker.wire.turns import TurnSnapshot

# ---------------------------------------------------------------- turns


@frozen(kw_only=True)
class TurnResult:
    """A turn: what one asks of it most, and all of it."""

    project_id: str
    turn_id: str
    agent_id: str
    state: str
    outcome: str | None
    final_record_role: str | None
    final_payload: Any
    snapshot: TurnSnapshot

    @classmethod
    def of(cls, snapshot: TurnSnapshot, **more: Any) -> Self:
        """The result for a turn; `more` are the fields a subclass adds."""
        return cls(
            project_id=snapshot.turn.project_id,
            turn_id=snapshot.turn.turn_id,
            agent_id=snapshot.target_agent.agent_id,
            state=snapshot.state,
            outcome=snapshot.outcome,
            final_record_role=snapshot.final_record_role,
            final_payload=snapshot.final_payload,
            snapshot=snapshot,
            **more,
        )


@frozen(kw_only=True)
class WaitedTurn(TurnResult):
    """A turn that closed while one waited, or before."""

    poll_count: int
    waited_seconds: float


@frozen(kw_only=True)
class RequestedTurn(TurnResult):
    """A turn resumed or stopped."""

    requested_by: str


@frozen(kw_only=True)
class ClosedTurn(TurnResult):
    """A turn finished under its claim."""

    claimed_by: str


@frozen(kw_only=True)
class SuspendedTurn(ClosedTurn):
    """A turn put aside under its claim."""

    reason: str


@frozen(kw_only=True)
class DispatchedTurn:
    """A turn given to an agent."""

    project_id: str
    turn_id: str
    agent_id: str
    request_id: str
    dispatch_key: str


@frozen(kw_only=True)
class SpawnTurn(DispatchedTurn):
    """A turn that asks a provisioner for an agent."""

    turn_kind: str
    requested_role: str


# ---------------------------------------------------------------- agents and profiles


@frozen(kw_only=True)
class AgentResult:
    """An agent: what one asks of it most, and all of it."""

    project_id: str
    agent_id: str
    role: str | None
    description: str | None
    enabled: bool
    accepts_work: bool
    snapshot: AgentSnapshot


@frozen(kw_only=True)
class DrainedAgent:
    """An agent that accepts no more work."""

    project_id: str
    agent_id: str
    accepts_work: bool
    drained: bool = True
    requested_by: str
    snapshot: AgentSnapshot


@frozen(kw_only=True)
class ResumedAgent:
    """An agent that accepts work again."""

    project_id: str
    agent_id: str
    accepts_work: bool
    resumed: bool = True
    requested_by: str
    snapshot: AgentSnapshot


@frozen(kw_only=True)
class JoinedAgent:
    """A profile made by an invite's code. The token is in its file, never here."""

    profile: str
    project_id: str
    agent_id: str
    status: str = "ready"
    base_url: str
    admin_base_url: str
    credential_id: str


@frozen(kw_only=True)
class EnsuredProfile:
    """A profile that works."""

    profile: str
    project_id: str
    agent_id: str
    credential_id: str | None
    status: str = "ready"


@frozen(kw_only=True)
class InviteResult:
    """A new invite, and what to send to whom it is for."""

    project_id: str
    agent_id: str
    invite: Invite
    join_command: str = field(repr=False)
    join_code: str = field(repr=False)
    canonical_command: str = "cg agent join"


@frozen(kw_only=True)
class IssuedToFile:
    """A new credential, and the file its token went to."""

    credential: CredentialSummary
    token_file: str


# ---------------------------------------------------------------- claims


@frozen(kw_only=True)
class NothingClaimed:
    """There was no work."""

    claimed: bool = False


@frozen(kw_only=True)
class NextClaim:
    """A claimed turn."""

    claimed: bool = True
    project_id: str
    turn_id: str
    agent_id: str
    claim: Mapping[str, Any] = field(repr=False)
    context: TurnContext


@frozen(kw_only=True)
class ContextNotRead:
    """A claimed turn whose context could not be read: it was put aside again."""

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
    server_time: Any
    expires_at: Any
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
    finished: bool | Absent = ABSENT
    outcome: str | Absent = ABSENT
    failure_payload: Any = ABSENT
    turn: TurnResult | Absent = ABSENT

    @property
    def exit_status(self) -> int:
        """1 unless the turn was closed well or put aside (cli.md 1)."""
        return int(self.suspended is ABSENT and self.outcome not in ("succeeded", "stopped"))


@frozen(kw_only=True)
class UnreadTurn:
    """A turn that a worker put aside because its context could not be read."""

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


# ---------------------------------------------------------------- smoke and setup


@frozen(kw_only=True)
class SmokeDispatch:
    """What a smoke test dispatched."""

    turn_id: str
    request_id: str
    dispatch_key: str
    turn_kind: str


@frozen(kw_only=True)
class SmokeResult:
    """A turn sent from one agent to another and back, whatever its outcome."""

    project_id: str
    from_: str
    to: str
    offer: OfferEntry
    dispatch: SmokeDispatch
    terminal_payload: Any
    terminal: WaitedTurn
    context: TurnContext


ANSWERS.register_unstructure_hook(
    SmokeResult, make_dict_unstructure_fn(SmokeResult, ANSWERS, from_=override(rename="from"))
)
