"""Admission: requests that make an external runtime an agent, and their answers (admission 4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from cgworker.wire.absent import ABSENT, Absent

REPORTER_PROFILE = "byoa.work_memory_reporter.v1"
WORKER_PROFILE = "byoa.conversation_worker.v1"


@frozen(kw_only=True)
class RequestCredentialToken:
    """Admit an agent and issue a credential for it (admission 4.1)."""

    request_id: str
    requested_agent_id: str
    display_name: str
    runtime_kind: str
    description: str | None = None
    requested_role: str = "external.agent.v1"
    requested_capabilities: tuple[str, ...] = ("turn.work_memory_report.v1",)
    profile_kind: str = REPORTER_PROFILE
    invitation_code: str | None = field(default=None, repr=False)
    creator_user_id: str | None = None


@frozen(kw_only=True)
class CreateInvite:
    """Invite an agent to join (admission 4.2).

    `capacity` and `grants` are not sent when absent, since the reference refuses them (difference 3).
    """

    agent_id: str
    profile_kind: str = WORKER_PROFILE
    runtime_kind: str = "manual.shell.v1"
    display_name: str | None = None
    description: str | None = None
    expires_in_seconds: int = 86400
    single_use: bool = True
    max_uses: int | None = None
    capacity: int | Absent = ABSENT
    grants: tuple[str, ...] | Absent = ABSENT


@frozen(kw_only=True)
class Invite:
    """An invite to join, without its code."""

    invite_id: str
    project_id: str
    agent_id: str
    profile_kind: str
    runtime_kind: str
    display_name: str
    description: str | None = None
    issued_by_user_id: str
    expires_at: datetime
    single_use: bool
    max_uses: int
    use_count: int
    disabled: bool
    last_redeemed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class CreatedInvite:
    """A new invite with its `join_code`, which cannot be read again."""

    invite: Invite
    join_code: str = field(repr=False)


@frozen(kw_only=True)
class InviteList:
    """All invites of a project, newest first (difference 13)."""

    invites: tuple[Invite, ...]


@frozen(kw_only=True)
class RevokedInvite:
    """The invite as revoked (difference 13)."""

    invite: Invite


@frozen(kw_only=True)
class RedeemInvite:
    """Join with the code of an invite; no other credential is needed (admission 4.3)."""

    join_code: str = field(repr=False)


@frozen(kw_only=True)
class AdmittedProfile:
    """The connection settings of an admitted agent."""

    project_id: str
    agent_id: str
    runtime_kind: str
    profile_kind: str
    profile_ref: str
    credential_id: str
    status: str = "credential_ready"


@frozen(kw_only=True)
class Admitted:
    """An admitted agent with a new `agent_credential_token`, which cannot be read again."""

    request_id: str
    project_id: str
    agent_id: str
    status: str = "registered"
    profile: AdmittedProfile
    credential: Mapping[str, Any]
    agent_credential_token: str = field(repr=False)


@frozen(kw_only=True)
class Joined(Admitted):
    """An agent admitted by an invite.

    `kernel_base_url` is the kernel's address, if it differs from the address used for joining.
    """

    invite: Invite
    kernel_base_url: str | Absent = ABSENT
