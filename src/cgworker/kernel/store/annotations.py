"""The annotations of ledger events: facts of the system and remarks of the caller (wire 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
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
"""Keys that only the system sets; the same keys from a caller are kept and listed under `caller`."""


def annotate(meta: Meta | None = None, /, **facts: Any) -> str:
    """Return an event's annotations as JSON text.

    Args:
        meta: the caller's remarks.
        facts: the system's facts; they appear at top level and again under `system`.
    """
    if meta is None and not facts:  # as for most events
        return "{}"
    said: dict[str, Any] = dict(facts)
    if facts:
        said["system"] = facts
    if meta is not None and (caller := _caller(meta)):
        said["caller"] = caller
    return dumps(said).decode()


def annotate_record(meta: Meta | None, role: str) -> str:
    """Return the annotations of the event of a new record as JSON text, as `annotate` does.

    Args:
        meta: the caller's remarks.
        role: the role of the record.
    """
    return _of_role(role) if meta is None else annotate(meta, record_role=role)


@lru_cache(maxsize=256)  # few roles have nearly all records
def _of_role(role: str) -> str:
    return annotate(record_role=role)


def with_remarks(meta: Meta | None, *, reason: str | None = None, note: str | None = None) -> Meta:
    """Return the caller's remarks, with the reason and note of the body instead of its own."""
    meta = meta or Meta()
    return evolve(
        meta,
        reason=meta.reason if reason is None else reason,
        note=meta.note if note is None else note,
    )


def _caller(meta: Meta) -> Mapping[str, Any]:
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
