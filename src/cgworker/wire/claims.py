"""Claims: claim a turn, renew the lease, and return turns whose lease ended (wire 6.4, 8.2)."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from attrs import field, frozen

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.meta import Meta, Trace
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.wire.turns import MAX_ITEMS


@frozen(kw_only=True)
class ClaimedTurn(ClaimToken):
    """A claim with the data that a worker needs next (difference 8); the reference sends only the claim."""

    context: TurnContext | Absent = ABSENT
    lease_seconds: float | Absent = ABSENT
    server_time: datetime | Absent = ABSENT
    attempt: int | Absent = ABSENT

    @property
    def claim(self) -> ClaimToken:
        """The claim alone, as other requests carry it."""
        return ClaimToken(
            project_id=self.project_id,
            turn_id=self.turn_id,
            agent_id=self.agent_id,
            token=self.token,
            expires_at=self.expires_at,
        )


@frozen(kw_only=True)
class ClaimNext:
    """Claim the agent's next turn."""

    agent: AgentRef
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class RenewClaim:
    """Extend the lease of a claim."""

    claim: ClaimToken
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class Renewal:
    """The new end of a lease; the reference's kernel sends no `stop_requested` or `record_count` (8, 32)."""

    server_time: datetime
    expires_at: datetime
    recommended_interval_seconds: float
    stop_requested: bool | Absent = ABSENT
    record_count: int | Absent = ABSENT


@frozen(kw_only=True)
class ReconcileExpired:
    """Return the agent's turns whose lease has ended to the queue; `agent` defaults to the caller."""

    agent: AgentRef | None = None
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class Reconciled:
    """The numbers of expired claims that were examined, and that were returned to the queue."""

    scanned_count: int
    reconciled_count: int


# ---------------------------------------------------------------- many in one request (difference 9)


@frozen(kw_only=True)
class ClaimItem:
    """Claim up to `limit` turns for one agent, with that agent's own credential.

    `idempotency_key` has the meaning of the header of the single route (difference 4): repeating the
    request claims the same turns.
    """

    agent: AgentRef
    credential: str = field(repr=False)
    limit: int = 1
    idempotency_key: str | None = None


@frozen(kw_only=True)
class ClaimMany:
    """Claim turns for many agents. Each answer is a list of claims, empty if there is no work."""

    max_items: ClassVar[int] = MAX_ITEMS

    items: tuple[ClaimItem, ...]


@frozen(kw_only=True)
class RenewItem:
    """Renew one claim, with its agent's own credential."""

    claim: ClaimToken
    credential: str = field(repr=False)


@frozen(kw_only=True)
class RenewMany:
    """Renew claims of any agents of the project."""

    max_items: ClassVar[int] = MAX_ITEMS

    items: tuple[RenewItem, ...]
