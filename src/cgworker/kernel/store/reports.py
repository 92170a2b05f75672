"""Work-memory reports: record work done elsewhere as a turn that is closed from the start (wire 10)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError, KernelOverloaded, NotFoundError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.ids import digest, digest_of_text, keyed_box_id, new_box_id, new_record_id, turn_id
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.records import card_metadata
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, RecordRef, TurnRef
from cgworker.wire.reports import MANIFEST_KIND, Report, ReportRecord, SubmittedReport

_KIND = "turn.work_memory_report.v1"
_SUBMISSION = "work_memory_report.atomic.v1"
_MANIFEST_ROLE = "work_memory_report_manifest"
_RESULT_ROLE = "work_memory_report_result"

# Locks in the order of a dispatch: the key, then the project's row. It locks no agent, so the two cannot
# deadlock. The arrays hold the records, from the manifest (turn_seq 1) on; the final payload has turn_seq 0,
# since it is content without a record.
SUBMIT_REPORT = """
with allowed as (
    select p.project_id
    from cg_projects p
    join cg_agents a on a.project_id = p.project_id
    where p.project_id = $1 and a.agent_id = $2 and a.enabled
), spawn as (
    insert into cg_spawns (project_id, spawn_key)
    select project_id, $3 from allowed
    on conflict do nothing
    returning project_id
), numbered as (
    update cg_projects p
    set turn_count = p.turn_count + 1
    from spawn s
    where p.project_id = s.project_id
    returning p.project_id, p.turn_count as turn_number
), item as (
    select *
    from unnest($5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
            $12::text[])
        as i (turn_seq, record_id, role, box_id, card_id, metadata, payload, annotations)
), born as (
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, spawn_key, state, outcome, record_count, final_record_role, final_seq,
        created_at, updated_at, closed_at)
    select project_id, turn_number, $2, $2, 'turn.work_memory_report.v1', 'external_request', $4, $3,
        'closed', 'succeeded', (select max(turn_seq) from item),
        (select 'work_memory_report_result' from item where turn_seq = 0),
        (select turn_seq from item where turn_seq = 0),
        cg_now(), cg_clock(), cg_now()
    from numbered
    returning *
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select b.project_id, b.turn_number, i.turn_seq, i.record_id, i.role, i.box_id, i.card_id,
        i.metadata::json, i.payload::json, cg_clock()
    from born b
    cross join item i
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
    select b.project_id, e.event_type, 'turn', 'T-' || b.turn_number, 'agent', $2,
        b.cause_kind, b.cause_id, e.annotations::json, e.box_id, $2, b.turn_number
    from born b
    cross join (
        select 0 as place, 'turn.spawned' as event_type, $13 as annotations, box_id
        from item where turn_seq = 1
        union all
        select turn_seq, 'turn.progress_appended', annotations, box_id from item where turn_seq > 0
        union all
        select 9223372036854775807, 'turn.finished', $14, (select box_id from item where turn_seq = 0)
    ) e
    order by e.place
)
select turn_number from born
"""


@frozen(kw_only=True)
class _Row:
    """One row of cg_records."""

    turn_seq: int
    record_id: str
    role: str
    box_id: str
    metadata: str
    payload: str
    annotations: str


async def submit_report(database: Database, agent: AgentRef, report: Report) -> SubmittedReport:
    """Record a report; a repeat with equal content changes nothing.

    Raises:
        ConflictError: the report is not valid, or another one has its request_id.
    """
    request_id = _check(report, agent)
    spawn_key = f"work-memory-report:{agent.agent_id}:{request_id}"
    manifest = _manifest_of(report, request_id)
    rows = _rows_of(agent.project_id, spawn_key, report, manifest, request_id)
    facts = {"submission_kind": _SUBMISSION, "request_id": request_id}
    number = await database.fetchval(
        SUBMIT_REPORT,
        agent.project_id,
        agent.agent_id,
        spawn_key,
        request_id,
        [row.turn_seq for row in rows],
        [row.record_id for row in rows],
        [row.role for row in rows],
        [row.box_id for row in rows],
        [new_box_id() for _ in rows],
        [row.metadata for row in rows],
        [row.payload for row in rows],
        [row.annotations for row in rows],
        annotate(requested_by=agent.agent_id, turn_kind=_KIND, spawn_entrypoint=_SUBMISSION, **facts),
        annotate(**facts),
    )
    if number is None:
        return await _replay(database, agent, spawn_key, manifest, report)
    refs = tuple(
        RecordRef(project_id=agent.project_id, record_id=row.record_id) for row in rows if row.turn_seq > 1
    )
    return SubmittedReport(
        status="submitted",
        turn=TurnRef(project_id=agent.project_id, turn_id=turn_id(number)),
        record_refs=refs,
        final_payload=report.final_payload,
    )


# ---------------------------------------------------------------- the rules of a report


def _check(report: Report, agent: AgentRef) -> str:
    """Raise ConflictError unless the report is valid; return its trimmed request id."""
    if report.kind != MANIFEST_KIND:
        raise ConflictError(f"unsupported work-memory report manifest kind: {report.kind}")
    request_id = report.request_id.strip()
    if not request_id:
        raise ConflictError("work-memory report request_id is required")
    if report.declared_project_id not in (None, agent.project_id):
        raise ConflictError("manifest declared_project_id must match trusted actor project")
    if report.declared_agent_id not in (None, agent.agent_id):
        raise ConflictError("manifest declared_agent_id must match trusted actor")
    if not report.records:
        raise ConflictError("work-memory report records must be a non-empty list")
    for place, record in enumerate(report.records, start=1):
        _check_record(place, record)
    return request_id


def _check_record(place: int, record: ReportRecord) -> None:
    role = record.role.strip()
    if not role:
        raise ConflictError(f"work-memory report record {place} role is required")
    if role in (_MANIFEST_ROLE, _RESULT_ROLE):
        raise ConflictError(f"work-memory report record role is reserved: {role}")
    if record.payload is None:
        raise ConflictError(f"work-memory report record {place} payload is required")


# ---------------------------------------------------------------- the rows of a report


def _manifest_of(report: Report, request_id: str) -> dict[str, Any]:
    """Return the report in its normal form: roles trimmed, its own null fields omitted."""
    optional = {
        "summary": report.summary,
        "final_payload": report.final_payload,
        "declared_project_id": report.declared_project_id,
        "declared_agent_id": report.declared_agent_id,
    }
    return {
        "kind": report.kind,
        "request_id": request_id,
        "records": [
            {"role": r.role.strip(), "payload": r.payload, "source_refs": list(r.source_refs)}
            for r in report.records
        ],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _rows_of(
    project_id: str, spawn_key: str, report: Report, manifest: dict[str, Any], request_id: str
) -> list[_Row]:
    def row(turn_seq: int, role: str, write_key: str, payload: Any) -> _Row:
        return _Row(
            turn_seq=turn_seq,
            record_id=new_record_id(),
            role=role,
            box_id=keyed_box_id(project_id, f"{spawn_key}:{write_key}"),
            metadata=card_metadata(role, submission_kind=_SUBMISSION),
            payload=dumps(payload).decode(),
            annotations=annotate(submission_kind=_SUBMISSION, request_id=request_id, record_role=role),
        )

    rows = [row(1, _MANIFEST_ROLE, "manifest", manifest)]
    for place, record in enumerate(manifest["records"], start=1):
        payload = {"kind": "work_memory_report_record.v1", **record}
        rows.append(row(place + 1, record["role"], f"record:{place}", payload))
    if report.final_payload is not None:
        rows.append(row(0, _RESULT_ROLE, "final", report.final_payload))
    return rows


# ---------------------------------------------------------------- replays


# The array and the inner order make PostgreSQL find the turn and its records by their whole keys, whatever it
# knows of the tables.
FIND_REPORT = """
select t.turn_number, r.turn_seq, r.record_id, r.payload
from cg_turns t
cross join lateral (
    select turn_seq, record_id, payload
    from cg_records
    where project_id = t.project_id and turn_number = t.turn_number and turn_seq > 0
    order by turn_seq
) r
where t.project_id = $1 and t.spawn_key = any ($2) and t.turn_number > 0
order by r.turn_seq
"""

FIND_REPORTER = "select enabled from cg_agents where project_id = $1 and agent_id = $2"


async def _replay(
    database: Database, agent: AgentRef, spawn_key: str, manifest: dict[str, Any], report: Report
) -> SubmittedReport:
    rows = await database.fetch(FIND_REPORT, agent.project_id, [spawn_key])
    if not rows:
        enabled = await database.fetchval(FIND_REPORTER, agent.project_id, agent.agent_id)
        if enabled is None:
            raise NotFoundError(f"agent not found: {agent.agent_id}")
        if not enabled:
            raise ConflictError(f"agent disabled: {agent.agent_id}")
        raise KernelOverloaded("the report met another one, try again", retry_after_seconds=0.1)
    if await digest_of_text(rows[0]["payload"]) != digest(manifest):
        raise ConflictError(f"cardbox write_key conflict: {spawn_key}:manifest")
    return SubmittedReport(
        status="already_submitted",
        turn=TurnRef(project_id=agent.project_id, turn_id=turn_id(rows[0]["turn_number"])),
        record_refs=tuple(
            RecordRef(project_id=agent.project_id, record_id=row["record_id"]) for row in rows[1:]
        ),
        final_payload=report.final_payload,
    )
