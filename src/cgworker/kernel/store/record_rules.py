"""Rules for records: the payload of one role, of which a turn may have only one record (wire 8)."""

from __future__ import annotations

from typing import Any

from cgworker.errors import ConflictError
from cgworker.kernel.store.ids import turn_number
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.refs import TurnRef

LAUNCH_STARTED = "provision_launch_started"


def payload_fault(role: str, payload: Any) -> str | None:
    """Return the fault of a payload for a record of this role; None if it is valid."""
    if role != LAUNCH_STARTED:
        return None
    if not isinstance(payload, dict):
        return "provision launch started payload must be an object"
    if payload.get("kind") != "provision_launch_started.v1":
        return "provision launch started kind mismatch"
    for key in ("assigned_agent_id", "role"):
        if not isinstance(payload.get(key), str) or not payload[key]:
            return f"{key} must be a non-empty string"
    return None


HAS_LAUNCH_STARTED = """
select exists (
    select from cg_records
    where project_id = $1 and turn_number = $2 and role = 'provision_launch_started'
)
"""


async def check_singleton(database: Database, turn: TurnRef, role: str, payload: Any) -> None:
    """Raise ConflictError if the payload is not valid for the role, or the turn has its only record of it."""
    if fault := payload_fault(role, payload):
        raise ConflictError(fault)
    if role == LAUNCH_STARTED and await database.fetchval(
        HAS_LAUNCH_STARTED, turn.project_id, turn_number(turn.turn_id)
    ):
        raise ConflictError(f"singleton semantic record already exists for role={role}")
