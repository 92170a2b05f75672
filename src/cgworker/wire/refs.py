"""References: the names of agents, turns, claims and content."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen


@frozen(kw_only=True)
class AgentRef:
    """An agent of a project."""

    project_id: str
    agent_id: str

    def __str__(self) -> str:
        return f"{self.project_id}/{self.agent_id}"


@frozen(kw_only=True)
class TurnRef:
    """A turn of a project; `turn_id` is `T-<n>`."""

    project_id: str
    turn_id: str

    def __str__(self) -> str:
        return f"{self.project_id}/{self.turn_id}"


@frozen(kw_only=True)
class CardBoxRef:
    """A stored piece of content."""

    project_id: str
    cardbox_id: str


@frozen(kw_only=True)
class RecordRef:
    """A semantic record."""

    project_id: str
    record_id: str


@frozen(kw_only=True)
class Cause:
    """Why a turn or an event exists: an external request, or a parent turn."""

    kind: str
    id: str


@frozen(kw_only=True)
class ClaimToken:
    """The right to work on a turn. `token` is secret; `expires_at` is by the kernel's clock."""

    project_id: str
    turn_id: str
    agent_id: str
    token: str = field(repr=False)
    expires_at: datetime

    @property
    def turn(self) -> TurnRef:
        """The claimed turn."""
        return TurnRef(project_id=self.project_id, turn_id=self.turn_id)

    @property
    def agent(self) -> AgentRef:
        """The agent that holds the claim."""
        return AgentRef(project_id=self.project_id, agent_id=self.agent_id)
