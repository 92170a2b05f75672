"""Credentials of agents (wire 6.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from attrs import field, frozen

from cgworker.wire.converter import ANSWERS, QUICK_ANSWERS, REQUESTS
from cgworker.wire.values import read_moment

Moment = Annotated[datetime, "moment"]
"""An instant that may also be sent as a number (see `read_moment`)."""


@frozen(kw_only=True)
class CredentialSummary:
    """A credential without its secret."""

    credential_id: str
    project_id: str
    agent_id: str
    status: str
    issued_by_agent_id: str | None = None
    provenance_kind: str | None = None
    provenance_ref: str | None = None
    provenance_payload_hash: str | None = None
    expires_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@frozen(kw_only=True)
class IssueCredential:
    """Issue a credential; without `expires_at` it does not expire."""

    expires_at: Moment | None = None
    provenance_kind: str | None = None
    provenance_ref: str | None = None
    provenance_payload_hash: str | None = None


@frozen(kw_only=True)
class IssuedCredential:
    """A new credential with its `token`, which cannot be read again."""

    credential: CredentialSummary
    token: str = field(repr=False)


@frozen(kw_only=True)
class RevokedCredential:
    """The credential as revoked."""

    credential: CredentialSummary


@frozen(kw_only=True)
class Credentials:
    """All credentials of an agent, including revoked ones."""

    credentials: tuple[CredentialSummary, ...]


for _converter in (REQUESTS, ANSWERS, QUICK_ANSWERS):
    _converter.register_structure_hook_func(lambda cls: cls is Moment, read_moment)
