"""Claims: getting one, keeping it, and giving expired ones back (wire 6.4, 8.2)."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from attrs import field, frozen

from cgworker.wire.converter import ABSENT, Absent
from cgworker.wire.meta import Meta, Trace
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.wire.turns import MOST_ITEMS


@frozen(kw_only=True)
class ClaimedTurn(ClaimToken):
    """A claim with what a worker would ask for next (difference 8); the reference gives the claim alone."""

    context: TurnContext | Absent = ABSENT
    lease_seconds: float | Absent = ABSENT
    server_time: datetime | Absent = ABSENT
    attempt: int | Absent = ABSENT

    @property
    def claim(self) -> ClaimToken:
        """The claim alone, as other requests show it."""
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
    """A lease extended; the reference's kernel gives no `stop_requested` and no `record_count` (8, 32)."""

    server_time: datetime
    expires_at: datetime
    recommended_interval_seconds: float
    stop_requested: bool | Absent = ABSENT
    record_count: int | Absent = ABSENT


@frozen(kw_only=True)
class ReconcileExpired:
    """Give back the agent's turns whose lease ended; `agent` defaults to the caller."""

    agent: AgentRef | None = None
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class Reconciled:
    """How many expired claims were looked at and given back."""

    scanned_count: int
    reconciled_count: int


# ---------------------------------------------------------------- many in one request (difference 9)


@frozen(kw_only=True)
class ClaimItem:
    """Up to `limit` turns for one agent, under that agent's own credential.

    `idempotency_key` is to the item what the header is to the single route (difference 4): a repeat gives the
    same turns again.
    """

    agent: AgentRef
    credential: str = field(repr=False)
    limit: int = 1
    idempotency_key: str | None = None


@frozen(kw_only=True)
class ClaimMany:
    """Claims for many agents; each item is answered with a list of claims, empty when there is no work."""

    most_items: ClassVar[int] = MOST_ITEMS

    items: tuple[ClaimItem, ...]


@frozen(kw_only=True)
class RenewItem:
    """One claim to keep."""

    claim: ClaimToken
    credential: str = field(repr=False)


@frozen(kw_only=True)
class RenewMany:
    """Claims to keep, of any agents of the project."""

    most_items: ClassVar[int] = MOST_ITEMS

    items: tuple[RenewItem, ...]
