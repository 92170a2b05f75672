"""Results of commands. Their fields, in order, are the `result` of the envelope (command line 3).

A command whose answer is a wire type returns that type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from attrs import asdict, field, frozen
from cattrs.gen import make_dict_unstructure_fn, override

from cgworker.lifecycle import TurnOutcome
from cgworker.why import StoryLine
from cgworker.wire.admission import Invite
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.converter import ANSWERS
from cgworker.wire.credentials import CredentialSummary
from cgworker.wire.projections import OfferEntry
from cgworker.wire.records import TurnContext
from cgworker.wire.turns import TurnSnapshot


@frozen(kw_only=True)
class TurnResult:
    """A turn: the fields that are asked for most, and its whole snapshot."""

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
        """Make the result for a turn.

        Args:
            snapshot: the turn.
            more: the fields that a subclass adds.
        """
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
    """A closed turn, and how long the command waited for it."""

    poll_count: int
    waited_seconds: float

    def with_exit_status(self) -> WaitedTurn:
        """Return this turn, as one that ends `cg` with 1 unless it has succeeded."""
        if self.outcome == TurnOutcome.SUCCEEDED:
            return self
        return UnsuccessfulWait(**asdict(self, recurse=False))


@frozen(kw_only=True)
class UnsuccessfulWait(WaitedTurn):
    """A turn that closed without success, for a command with --exit-status."""

    exit_status: ClassVar[int] = 1


@frozen(kw_only=True)
class AskedTurn(TurnResult):
    """A closed turn that was asked for its answer."""

    @property
    def exit_status(self) -> int:
        """Return 1 unless the turn has succeeded."""
        return int(self.outcome != TurnOutcome.SUCCEEDED)


@frozen(kw_only=True)
class RequestedTurn(TurnResult):
    """A turn that was resumed, or whose stop was requested."""

    requested_by: str


@frozen(kw_only=True)
class ClosedTurn(TurnResult):
    """A turn that was finished under its claim."""

    claimed_by: str


@frozen(kw_only=True)
class SuspendedTurn(ClosedTurn):
    """A turn that was suspended under its claim."""

    reason: str


@frozen(kw_only=True)
class DispatchedTurn:
    """A turn that was dispatched to an agent."""

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
    """An agent: the fields that are asked for most, and its whole snapshot."""

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
    """A profile that an invite's code made. The token is in its file, and never in the result."""

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
    """A new invite, and the command that its agent is to run."""

    project_id: str
    agent_id: str
    invite: Invite
    join_command: str = field(repr=False)
    join_code: str = field(repr=False)
    canonical_command: str = "cg agent join"


@frozen(kw_only=True)
class IssuedToFile:
    """A new credential, and the file that holds its token."""

    credential: CredentialSummary
    token_file: str


# ---------------------------------------------------------------- explanations


@frozen(kw_only=True)
class Why:
    """The reasons for a turn's state, and its events."""

    project_id: str
    turn_id: str
    state: str
    outcome: str | None
    because: tuple[str, ...]
    story: tuple[StoryLine, ...]


@frozen(kw_only=True)
class DoctorCheck:
    """One check of `cg doctor`."""

    name: str
    healthy: bool
    message: str
    advice: str | None = None


@frozen(kw_only=True)
class Diagnosis:
    """All checks of `cg doctor`."""

    healthy: bool
    checks: tuple[DoctorCheck, ...]

    @property
    def exit_status(self) -> int:
        """Return 1 if a check failed."""
        return int(not self.healthy)


# ---------------------------------------------------------------- smoke and setup


@frozen(kw_only=True)
class AdminService:
    """The agent admin-service, as it is registered."""

    agent_id: str
    role: str | None
    accepts_work: bool
    capabilities: tuple[str, ...]
    grants: tuple[str, ...]
    public_metadata: Mapping[str, Any]


@frozen(kw_only=True)
class ProjectSetup:
    """How far a project is prepared."""

    project_id: str
    seeded: bool
    matches_bootstrap_spec: bool
    mismatch_fields: tuple[str, ...]
    admin_service: AdminService | None
    admin_service_credential_ready: bool
    admin_service_token_file: str
    admin_auth_ready: bool
    admin_auth_token_file: str


@frozen(kw_only=True)
class PurgedProject:
    """How much of a project was removed, or would be without --dry-run."""

    project_id: str
    older_than_seconds: int
    turn_count: int
    record_count: int
    event_count: int
    key_count: int
    credential_count: int
    dry_run: bool = False


@frozen(kw_only=True)
class ClientConfig:
    """The values that were written to the config file."""

    config_path: str
    base_url: str
    admin_base_url: str
    admin_auth_token_file: str
    project_id: str


@frozen(kw_only=True)
class SmokeDispatch:
    """The turn that `cg smoke pair` dispatched."""

    turn_id: str
    request_id: str
    dispatch_key: str
    turn_kind: str


@frozen(kw_only=True)
class SmokeResult:
    """A turn that one agent dispatched to another, with its result and its records."""

    project_id: str
    from_: str
    to: str
    offer: OfferEntry
    dispatch: SmokeDispatch
    terminal_payload: Any
    terminal: WaitedTurn
    context: TurnContext


@frozen(kw_only=True)
class UnsuccessfulSmoke(SmokeResult):
    """One whose turn closed without success, for a command with --exit-status."""

    exit_status: ClassVar[int] = 1


for _kind in (SmokeResult, UnsuccessfulSmoke):
    ANSWERS.register_unstructure_hook(
        _kind, make_dict_unstructure_fn(_kind, ANSWERS, from_=override(rename="from"))
    )
