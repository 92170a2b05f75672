"""What the same database does without HTTP, identity, batches or checks that can be left out.

A verb is one prepared statement that writes the rows that the kernel's writes, on a connection of asyncpg
that does nothing else. So it is what a program with the database to itself would write by hand.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from attrs import frozen

from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.connect import open_database

MAKE_AGENTS = """
insert into cg_agents (project_id, agent_id, enabled, accepts_work, capacity, capabilities, grants,
    public_metadata)
select 'bare', 'agent-' || n, true, true, 1, '{}', '{}', '{}' from generate_series(0, $1 - 1) n
"""

MAKE_PROJECT = "insert into cg_projects (project_id) values ('bare')"

DISPATCH = """
with spawned as (
    insert into cg_spawns (project_id, spawn_key) values ('bare', $2)
), counted as (
    update cg_projects set turn_count = turn_count + 1 where project_id = 'bare' returning turn_count
), born as (
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, spawn_key, state, record_count, created_at, updated_at)
    select 'bare', turn_count, $1, $1, 'turn.conversation.v1', 'external_request', $2, $2, 'queued', 1, now(),
        now()
    from counted
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata,
        payload, created_at)
    select 'bare', turn_count, 1, $2, 'bootstrap', $2, $2, '{}', $3, now() from counted
)
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id, annotations,
    agent_id, turn_number)
select 'bare', type, 'turn', 'T-' || turn_count, 'agent', $1, '{}', $1, turn_count
from counted
cross join (values ('turn.spawned'), ('turn.bootstrap_recorded')) event (type)
"""

CLAIM = """
with next as (
    select turn_number from cg_turns
    where project_id = 'bare' and target_agent_id = $1 and state = 'queued'
    order by turn_number
    limit 1
    for no key update skip locked
), taken as (
    update cg_agents set held_count = held_count + 1
    where project_id = 'bare' and agent_id = $1 and held_count < capacity and exists (select from next)
    returning agent_id
), claimed as (
    update cg_turns t
    set state = 'running', claim_agent_id = $1, claim_token_hash = $2,
        claim_expires_at = clock_timestamp() + interval '30 s', updated_at = now()
    from next, taken
    where t.project_id = 'bare' and t.turn_number = next.turn_number
    returning t.*
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        annotations, agent_id, turn_number)
    select 'bare', 'turn.claimed', 'turn', 'T-' || turn_number, 'agent', $1, '{}', $1, turn_number
    from claimed
)
select claimed.*, record.payload
from claimed
join cg_records record on record.project_id = 'bare' and record.turn_number = claimed.turn_number
"""

FINISH = """
with closed as (
    update cg_turns
    set state = 'closed', outcome = 'succeeded', closed_at = now(), updated_at = now(), claim_agent_id = null,
        claim_token_hash = null, claim_expires_at = null, record_count = record_count + 1,
        final_record_role = 'deliverable', final_seq = record_count + 1
    where project_id = 'bare' and turn_number = $2 and state = 'running' and claim_token_hash = $3
        and claim_expires_at > clock_timestamp()
    returning turn_number, final_seq
), freed as (
    update cg_agents set held_count = held_count - 1
    where project_id = 'bare' and agent_id = $1 and exists (select from closed)
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata,
        payload, created_at)
    select 'bare', turn_number, final_seq, $4, 'deliverable', $4, $4, '{}', $5, now() from closed
)
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id, annotations,
    agent_id, turn_number)
select 'bare', type, 'turn', 'T-' || turn_number, 'agent', $1, '{}', $1, turn_number
from closed
cross join (values ('turn.progress_appended'), ('turn.finished')) event (type)
"""


@frozen
class _Worker:
    """An agent with a connection of its own."""

    agent_id: str
    dispatch: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]
    claim: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]
    finish: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]

    @classmethod
    async def on(cls, connection: asyncpg.Connection[asyncpg.Record], number: int) -> _Worker:
        statements = [await connection.prepare(statement) for statement in (DISPATCH, CLAIM, FINISH)]
        return cls(f"agent-{number}", *statements)

    async def close_turns(self, until: float) -> int:
        """Close one turn after the other; returns how many."""
        count = 0
        while time.perf_counter() < until:
            token = secrets.token_bytes(32)
            await self.dispatch.fetch(self.agent_id, token.hex(), '{"text":"say hello"}')
            (claimed,) = await self.claim.fetch(self.agent_id, token)
            number = claimed["turn_number"]
            await self.finish.fetch(self.agent_id, number, token, token.hex(), '{"text":"hello"}')
            count += 1
        return count


@asynccontextmanager
async def bare_turns(dsn: str, most: int) -> AsyncIterator[Callable[[int, float], Awaitable[float]]]:
    """What closes turns on so many connections for so many seconds, and says how many a second.

    Args:
        most: how many connections there can be.
    """
    async with open_database(KernelConfig(pg_dsn=dsn)) as database, AsyncExitStack() as stack:
        await database.execute(MAKE_PROJECT)
        await database.execute(MAKE_AGENTS, most)
        workers: list[_Worker] = []
        for number in range(most):
            connection = await asyncpg.connect(dsn)
            stack.push_async_callback(connection.close)
            workers.append(await _Worker.on(connection, number))

        async def run(connection_count: int, seconds: float) -> float:
            await database.execute("analyze")  # a kernel sees to that by itself
            begun = time.perf_counter()
            running = [worker.close_turns(begun + seconds) for worker in workers[:connection_count]]
            return sum(await asyncio.gather(*running)) / (time.perf_counter() - begun)

        yield run
