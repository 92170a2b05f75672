"""Invitation codes: the operator's file of codes that admit conversation workers (admission 8)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cgworker.errors import ForbiddenError, UsageError
from cgworker.kernel.store.admission_profiles import PROFILE_KINDS
from cgworker.wire.admission import WORKER_PROFILE
from cgworker.wire.values import Fault, read_datetime, read_lax_bool

_OWNER = "project_owner"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z", re.IGNORECASE)


@frozen(kw_only=True)
class Invitation:
    """One invitation: the SHA-256 of its code, and what the code permits."""

    invite_id: str
    project_id: str
    issued_by_user_id: str
    allowed_profile_kinds: tuple[str, ...]
    code_sha256: str = field(repr=False)
    enabled: bool
    expires_at: datetime | None


@frozen
class Invitations:
    """The invitations of a file; the first one with a code decides."""

    entries: tuple[Invitation, ...]

    @classmethod
    def load(cls, path: Path | str) -> Invitations:
        """Read the file.

        Raises:
            UsageError: the file cannot be read, or an entry is not in the form of admission 8.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as broken:
            raise UsageError(f"the invitations in {path} cannot be read: {broken}") from broken
        try:
            return cls(tuple(_read_entry(entry) for entry in _entries_of(content)))
        except (Fault, ValueError) as wrong:
            raise UsageError(f"the invitations in {path} cannot be used: {wrong}") from wrong

    def approve(self, code: str, *, project_id: str, profile_kind: str) -> Invitation:
        """Return the invitation of a code.

        Raises:
            ForbiddenError: invitation_code_invalid; the message gives the reason.
        """
        sha256 = hashlib.sha256(code.encode()).hexdigest()
        found = next((entry for entry in self.entries if entry.code_sha256 == sha256), None)
        if found is None:
            raise _refused("is invalid")
        if not found.enabled:
            raise _refused("is disabled")
        if found.project_id != project_id:
            raise _refused("is not valid for project")
        if profile_kind not in found.allowed_profile_kinds:
            raise _refused("is not valid for profile_kind")
        if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
            raise _refused("is expired")
        return found


def _refused(why: str) -> ForbiddenError:
    return ForbiddenError(f"BYOA invitation code {why}", code="invitation_code_invalid")


def _entries_of(content: Any) -> list[Any]:
    if isinstance(content, dict):
        content = content.get("invitations", content.get("invites"))
    if not isinstance(content, list):
        raise ValueError("a list is wanted, or an object with a list under 'invitations'")
    return content


def _read_entry(entry: Any) -> Invitation:
    if not isinstance(entry, dict):
        raise ValueError("each invitation must be an object")
    if _text(entry, "issuer_role") != _OWNER:
        raise ValueError(f"unsupported issuer_role: {entry['issuer_role']}, only {_OWNER} may invite")
    expires_at = entry.get("expires_at")
    return Invitation(
        invite_id=_text(entry, "invite_id" if "invite_id" in entry else "id"),
        project_id=_text(entry, "project_id"),
        issued_by_user_id=_text(entry, "issued_by_user_id"),
        allowed_profile_kinds=_read_kinds(entry.get("allowed_profile_kinds", [WORKER_PROFILE])),
        code_sha256=_read_code(entry),
        enabled=read_lax_bool(entry.get("enabled", True)),
        expires_at=None if expires_at is None else read_datetime(expires_at, datetime),
    )


def _read_kinds(kinds: Any) -> tuple[str, ...]:
    if not isinstance(kinds, list) or not kinds:
        raise ValueError("allowed_profile_kinds must be a non-empty list")
    for kind in kinds:
        if kind not in PROFILE_KINDS:
            raise ValueError(f"unsupported profile_kind: {kind}")
    return tuple(kinds)


def _read_code(entry: Mapping[str, Any]) -> str:
    if "code_sha256" not in entry:
        return hashlib.sha256(_text(entry, "code").encode()).hexdigest()
    given = _SHA256.match(_text(entry, "code_sha256"))
    if given is None:
        raise ValueError("code_sha256 must be 64 hexadecimal digits, or such after 'sha256:'")
    return given[1].lower()


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a non-empty string")
    return value.strip()
