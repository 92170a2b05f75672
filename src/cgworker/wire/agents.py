"""Agents: registration, presence, metadata, and whether they accept work (wire 6.2, 6.3, 9)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.meta import Meta, Trace
from cgworker.wire.refs import AgentRef


@frozen(kw_only=True)
class AgentSnapshot:
    """The current state of an agent."""

    agent: AgentRef
    enabled: bool
    accepts_work: bool
    capacity: int
    capabilities: tuple[str, ...]
    grants: tuple[str, ...]
    public_metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    last_seen_at: datetime | None = None
    role: str | None = None
    description: str | None = None
    registered_by_agent_id: str | None = None
    registration_provenance_kind: str | None = None
    registration_provenance_ref: str | None = None
    registration_provenance_payload_hash: str | None = None
    admitted_spec_hash: str | None = None


@frozen(kw_only=True)
class AgentSpec:
    """The properties of a new agent. `capacity` is how many turns it may have running at once."""

    agent_id: str
    role: str
    description: str | None = None
    enabled: bool = True
    accepts_work: bool = True
    capacity: int = 1
    capabilities: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    public_metadata: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Provenance:
    """The source that vouches for a registration."""

    kind: str
    external_ref: str
    payload_hash: str | None = None


@frozen(kw_only=True)
class RegisterAgent:
    """Register a new agent."""

    spec: AgentSpec
    provenance: Provenance


@frozen(kw_only=True)
class UpdateAgent:
    """Change an agent; absent fields stay as they are (difference 3, not in the reference)."""

    agent: AgentRef
    requested_by: AgentRef
    capacity: int | Absent = ABSENT
    enabled: bool | Absent = ABSENT
    capabilities: tuple[str, ...] | Absent = ABSENT
    grants: tuple[str, ...] | Absent = ABSENT
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class SetAcceptsWork:
    """Drain or resume an agent; the route tells which."""

    agent: AgentRef
    requested_by: AgentRef
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class RenewPresence:
    """Report that the agent is alive."""

    agent: AgentRef
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class ReplaceMetadata:
    """Replace all of the agent's public metadata."""

    agent: AgentRef
    public_metadata: Mapping[str, Any] = field(factory=dict)
    meta: Meta | None = None
    trace: Trace | None = None
