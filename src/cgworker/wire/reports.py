"""Work-memory reports: work done elsewhere, recorded as a closed turn (wire 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cgworker.wire.refs import RecordRef, TurnRef

MANIFEST_KIND = "agent_work_memory_report_manifest.v1"


@frozen(kw_only=True)
class ReportRecord:
    """One record of a report."""

    role: str
    payload: Any
    source_refs: tuple[Mapping[str, Any], ...] = ()


@frozen(kw_only=True)
class Report:
    """The manifest of a report; repeating it with the same `request_id` changes nothing."""

    kind: str = MANIFEST_KIND
    request_id: str
    summary: str | None = None
    records: tuple[ReportRecord, ...]
    final_payload: Any = None
    declared_project_id: str | None = None
    declared_agent_id: str | None = None


@frozen(kw_only=True)
class SubmittedReport:
    """The result: `status` is "submitted", or "already_submitted" for a repeat."""

    status: str
    turn: TurnRef
    record_refs: tuple[RecordRef, ...]
    final_payload: Any = None
