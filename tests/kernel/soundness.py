"""What no crash may leave behind: statements that find things half done."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

_FAULTS: Mapping[str, str] = {
    "an agent's slots are not its running turns": """
        select a.agent_id, a.held_count, count(t.turn_number) from cg_agents a
        left join cg_turns t on t.project_id = a.project_id and t.claim_agent_id = a.agent_id
            and t.state = 'running'
        group by a.project_id, a.agent_id having a.held_count <> count(t.turn_number)
    """,
    "a spawn key without its turn": """
        select spawn_key from cg_spawns s where not exists (
            select from cg_turns t where t.project_id = s.project_id and t.spawn_key = s.spawn_key)
    """,
    "turns are not numbered from 1 without gaps": """
        select p.project_id, p.turn_count, count(t.turn_number) from cg_projects p
        left join cg_turns t using (project_id)
        group by p.project_id having p.turn_count <> count(t.turn_number)
            or p.turn_count <> coalesce(max(t.turn_number), 0)
    """,
    "a turn's count of records is not that of its records": """
        select t.turn_number, t.record_count, count(r.turn_seq) from cg_turns t
        left join cg_records r on r.project_id = t.project_id and r.turn_number = t.turn_number
            and r.turn_seq > 0
        group by t.project_id, t.turn_number
        having t.record_count <> count(r.turn_seq) or t.record_count <> coalesce(max(r.turn_seq), 0)
            or count(r.turn_seq) = 0
    """,
    "a record that no event tells of, or an event whose record is missing": """
        select t.turn_number, t.record_count, count(l.event_id) from cg_turns t
        left join cg_ledger l on l.project_id = t.project_id and l.turn_number = t.turn_number
            and l.event_type in ('turn.bootstrap_recorded', 'turn.progress_appended', 'turn.told')
        group by t.project_id, t.turn_number having t.record_count <> count(l.event_id)
    """,
    "a turn without its birth in the ledger, or born twice": """
        select t.turn_number from cg_turns t
        left join cg_ledger l on l.project_id = t.project_id and l.turn_number = t.turn_number
            and l.event_type = 'turn.spawned'
        group by t.project_id, t.turn_number having count(l.event_id) <> 1
    """,
    "a turn is closed and the ledger does not say so once, or the reverse": """
        select t.turn_number, t.state, count(l.event_id) from cg_turns t
        left join cg_ledger l on l.project_id = t.project_id and l.turn_number = t.turn_number
            and l.event_type = 'turn.finished'
        group by t.project_id, t.turn_number having (t.state = 'closed')::int <> count(l.event_id)
    """,
    "a turn's state is not what its last event made it": """
        select t.turn_number, t.state, last.event_type from cg_turns t
        join lateral (
            select event_type from cg_ledger l
            where l.project_id = t.project_id and l.turn_number = t.turn_number and event_type in (
                'turn.spawned', 'turn.claimed', 'turn.claim_reconciled', 'turn.suspended',
                'turn.resumed', 'turn.finished')
            order by event_id desc limit 1
        ) last on true
        where t.state <> case last.event_type
            when 'turn.claimed' then 'running' when 'turn.suspended' then 'suspended'
            when 'turn.finished' then 'closed' else 'queued' end
    """,
    "a final payload that is not there": """
        select t.turn_number from cg_turns t where t.final_seq is not null and not exists (
            select from cg_records r where r.project_id = t.project_id
                and r.turn_number = t.turn_number and r.turn_seq = t.final_seq)
    """,
    "content of no turn": """
        select r.turn_number, r.turn_seq from cg_records r where not exists (
            select from cg_turns t where t.project_id = r.project_id and t.turn_number = r.turn_number)
    """,
    "content that is no record and no final payload": """
        select r.turn_number from cg_records r join cg_turns t using (project_id, turn_number)
        where r.turn_seq = 0 and t.final_seq is distinct from 0
    """,
    "an event whose subject does not exist": """
        select l.event_id, l.event_type from cg_ledger l
        left join cg_turns t on t.project_id = l.project_id and t.turn_number = l.turn_number
        left join cg_agents a on a.project_id = l.project_id and a.agent_id = l.agent_id
        where case l.subject_kind when 'turn' then t.turn_number is null else a.agent_id is null end
    """,
    "an agent without its registration in the ledger": """
        select a.agent_id from cg_agents a where a.agent_id <> 'admin-service' and not exists (
            select from cg_ledger l where l.project_id = a.project_id and l.agent_id = a.agent_id
                and l.event_type = 'agent.registered')
    """,
    "an idempotency key without its turn": """
        select k.key from cg_idempotency_keys k where not exists (
            select from cg_turns t where t.project_id = k.project_id and t.turn_number = k.turn_number)
    """,
    "a credential of no agent": """
        select c.credential_id from cg_credentials c where not exists (
            select from cg_agents a where a.project_id = c.project_id and a.agent_id = c.agent_id)
    """,
    "the ledger is not numbered from 1 without gaps": """
        select h.project_id, h.ledger_seq, count(l.ledger_seq) from cg_ledger_heads h
        left join cg_ledger l on l.project_id = h.project_id and l.ledger_seq is not null
        group by h.project_id having h.ledger_seq <> count(l.ledger_seq)
            or h.ledger_seq <> coalesce(max(l.ledger_seq), 0)
    """,
}


async def faults_of(pool: asyncpg.Pool[asyncpg.Record]) -> dict[str, list[tuple[object, ...]]]:
    """What is half done in the database, by what is wrong with it; empty is as it must be."""
    found = {what: await pool.fetch(statement) for what, statement in _FAULTS.items()}
    return {what: [tuple(row) for row in rows] for what, rows in found.items() if rows}
