"""What a ledger event says besides its type: facts of the system, remarks of the caller (wire 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from cgworker.wire.converter import dumps
from cgworker.wire.meta import Meta

RESERVED_KEYS = frozenset(
    {
        "accepts_work",
        "admitted_spec_hash",
        "bootstrap",
        "caller",
        "owner",
        "record_role",
        "registered_by_agent_id",
        "registration_provenance_kind",
        "registration_provenance_payload_hash",
        "registration_provenance_ref",
        "request_id",
        "requested_by",
        "spawn_entrypoint",
        "submission_kind",
        "system",
        "turn_kind",
    }
)
"""Keys that only the system sets; a caller's are kept under `caller` and named there."""


def annotate(meta: Meta | None = None, /, **facts: Any) -> str:
    """The annotations as JSON text.

    Args:
        meta: the caller's remarks.
        facts: the system's facts; they stand at top level and again under `system`.
    """
    said: dict[str, Any] = dict(facts)
    if facts:
        said["system"] = facts
    if caller := _caller(meta):
        said["caller"] = caller
    return dumps(said).decode()


def with_remarks(meta: Meta | None, *, reason: str | None = None, note: str | None = None) -> Meta:
    """The caller's remarks, overlaid by what the body itself says."""
    meta = meta or Meta()
    return evolve(
        meta,
        reason=meta.reason if reason is None else reason,
        note=meta.note if note is None else note,
    )


def _caller(meta: Meta | None) -> Mapping[str, Any]:
    if meta is None:
        return {}
    said: dict[str, Any] = {}
    if meta.note is not None:
        said["note"] = meta.note
    if meta.reason is not None:
        said["reason"] = meta.reason
    if meta.annotations:
        said["annotations"] = meta.annotations
        if reserved := sorted(RESERVED_KEYS & meta.annotations.keys()):
            said["reserved_annotation_keys"] = reserved
    return said
