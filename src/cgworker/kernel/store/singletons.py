"""The one role of which a turn takes one record only (protocol.md 8)."""

from __future__ import annotations

from typing import Any, NoReturn

from cgworker.errors import ConflictError

LAUNCH_STARTED = "provision_launch_started"


def check_singleton(role: str, payload: Any) -> None:
    """Raise ConflictError unless the payload is what its role demands."""
    if role != LAUNCH_STARTED:
        return
    if not isinstance(payload, dict):
        raise ConflictError("provision launch started payload must be an object")
    if payload.get("kind") != "provision_launch_started.v1":
        raise ConflictError("provision launch started kind mismatch")
    for key in ("assigned_agent_id", "role"):
        if not isinstance(payload.get(key), str) or not payload[key]:
            raise ConflictError(f"{key} must be a non-empty string")


def refuse_second(role: str) -> NoReturn:
    """A turn has such a record already."""
    raise ConflictError(f"singleton semantic record already exists for role={role}")
