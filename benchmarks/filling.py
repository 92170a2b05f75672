"""A project that has seen much, made by SQL as a kernel would have left it."""

from __future__ import annotations

import asyncpg
from attrs import frozen

from benchmarks.servers import PROJECT


@frozen
class Size:
    """How much there is in a project.

    Attributes:
        turn_count: a hundredth of them is queued; the last turn has `record_count` records, others one.
        event_count: in the ledger, all numbered.
    """

    turn_count: int
    event_count: int
    record_count: int
    agent_count: int


FULL = Size(turn_count=1_000_000, event_count=5_000_000, record_count=100_000, agent_count=10_000)

# Agents are named agent-1, agent-2...; turn n belongs to agent n modulo their number, and every tenth is a
# child of turn n / 100 + 1, which so has ten.
FILL = (
    """
    insert into cg_agents (project_id, agent_id, role, enabled, accepts_work, capacity, capabilities, grants,
        public_metadata)
    select $1, 'agent-' || n, 'bench', true, true, 1, '{turn.conversation.v1}', '{}', '{}'
    from generate_series(1, $5::bigint) n
    """,
    """
    insert into cg_spawns (project_id, spawn_key)
    select $1, 'filled-' || n from generate_series(1, $2::bigint) n
    """,
    """
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, state, outcome, record_count, created_at, updated_at,
        closed_at)
    select $1, n, 'agent-' || n % $5::bigint + 1, 'agent-1', 'turn.conversation.v1',
        case n % 10 when 0 then 'turn' else 'external_request' end, 'cause-' || n,
        case n % 10 when 0 then n / 100 + 1 end, 'filled-' || n,
        case n % 100 when 1 then 'queued' else 'closed' end,
        case n % 100 when 1 then null else 'succeeded' end,
        case n when $2 then $4::bigint else 1 end, now(), now(),
        case n % 100 when 1 then null else now() end
    from generate_series(1, $2::bigint) n
    """,
    """
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata,
        payload, created_at)
    select $1, n, seq, 'record-' || n || '-' || seq, 'progress', 'box-' || n || '-' || seq, 'card', '{}',
        '{"step":"reading"}', now()
    from generate_series(1, $2::bigint) n
    cross join lateral generate_series(1, case n when $2 then $4::bigint else 1 end) seq
    """,
    """
    insert into cg_ledger (project_id, ledger_seq, event_type, subject_kind, subject_id, actor_kind, actor_id,
        annotations, agent_id, turn_number, parent_number)
    select $1, n, 'turn.progress_appended', 'turn', 'T-' || n % $2::bigint + 1, 'agent', 'agent-1', '{}',
        'agent-' || n % $5::bigint + 1, n % $2::bigint + 1, null
    from generate_series(1, $3::bigint) n
    """,
    """
    insert into cg_projects (project_id, turn_count) values ($1, $2)
    on conflict (project_id) do update set turn_count = excluded.turn_count
    """,
    """
    insert into cg_ledger_heads (project_id, ledger_seq) values ($1, $3)
    on conflict (project_id) do update set ledger_seq = excluded.ledger_seq
    """,
)

LIST_INDEXES = """
select indexname, indexdef from pg_indexes
where tablename in ('cg_ledger', 'cg_turns') and indexname !~ '_(key|pkey)$'
"""

# The ledger that the project had before gets its number anew, after the filled one's.
FORGET_LEDGER = "delete from cg_ledger where project_id = $1"


async def fill(dsn: str, size: Size) -> None:
    """Fill the project of a kernel that has just been started; it must not be used meanwhile."""
    connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
    indexes = await connection.fetch(LIST_INDEXES)
    for index in indexes:  # they are made quicker than filled
        await connection.execute(f'drop index "{index["indexname"]}"')
    await connection.execute(FORGET_LEDGER, PROJECT)
    counts = (size.turn_count, size.event_count, size.record_count, size.agent_count)
    for statement in FILL:
        prepared = await connection.prepare(_typed(statement))
        await prepared.fetch(PROJECT, *counts)
    for index in indexes:
        await connection.execute(index["indexdef"])
    await connection.execute("vacuum analyze")
    await connection.close()


def _typed(statement: str) -> str:
    """The statement with all five parameters in it, used or not."""
    return f"with sizes as (select $1::text, $2::bigint, $3::bigint, $4::bigint, $5::bigint) {statement}"
