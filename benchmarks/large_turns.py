"""Row 18: turns of 1,000 records, results of 32 KB, and what a kernel holds after payloads of 8 MB.

One worker process works off turns that are queued before. The records are made by SQL, as a kernel would have
left them. "Read" are records that a handler has got; it looks at the payload of each in "looked at".
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncpg
from attrs import frozen

from benchmarks.harnesses.large_turns import text_of
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main, memory_mib
from benchmarks.pick_up import read_answer, running_program
from benchmarks.servers import (
    PROJECT,
    Agent,
    Postgres,
    Server,
    new_database,
    running_kernel,
    running_postgres,
)
from cgworker.wire.turns import CONVERSATION_KIND

ROW = Row(
    18,
    "turns of 1,000 records; results of 32 KB beside 1 KB; a kernel's memory after payloads of 8 MB",
    "≤ 15 ms CPU of worker and kernel a turn; ≥ 0.7 × the rate; within 20 % of the start",
)

_RECORDS = 1_000
_CONTEXTS = 40
_RESULTS = 1_000
_SMALL, _LARGE, _HUGE = 1_000, 32_000, 8_000_000
_AT_ONCE = 8
_SECONDS_TO_REST = 25.0  # the kernel looks every ten seconds for what it can give back
_READ, _LOOKED = "turn.records.v1", "turn.looked.v1"

QUEUE = """
with counted as (
    update cg_projects set turn_count = turn_count + $2
    where project_id = $1
    returning turn_count - $2 as before
), born as (
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, spawn_key, state, record_count, created_at, updated_at)
    select $1, before + n, 'large', 'large', $4,
        'external_request', 'c', gen_random_uuid()::text, 'queued', $3, now(), now()
    from counted, generate_series(1, $2) n
    returning turn_number
)
insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata,
    payload, created_at)
select $1, turn_number, seq, gen_random_uuid()::text, 'progress',
    gen_random_uuid()::text, gen_random_uuid()::text, '{"cg_role":"progress","cg_source":"CommonGround"}',
    '{"step":"reading something of no great length, as a tool would say"}', clock_timestamp()
from born, generate_series(1, $3::bigint) seq
"""

COUNT_OPEN = "select count(*) from cg_turns where state <> 'closed'"

RATE_SINCE = """
select (count(*) - 1) / extract(epoch from max(closed_at) - min(closed_at))::float8
from cg_turns
where closed_at > $1
"""


@frozen
class Site:
    """A kernel with its database, and the agent that works."""

    postgres: Postgres
    server: Server
    agent: Agent
    database: asyncpg.Connection[asyncpg.Record]


async def measure(options: Options) -> Findings:
    """CPU time a turn, the rates in alternation, and the memory before and after."""
    findings = Findings()
    if options.url is not None:
        findings.notes.append("this row starts its own kernel")
    with running_postgres() as postgres:
        dsn = await new_database(postgres)
        with running_kernel(dsn) as server:
            kinds = (CONVERSATION_KIND, _READ, _LOOKED)
            agent = await server.admit("large", capacity=10, capabilities=kinds)
            site = Site(postgres, server, agent, await asyncpg.connect(dsn))
            async with callers(server, [agent] * _AT_ONCE) as clients:
                for small in (_SMALL, _LARGE):
                    await _results(site, clients, small, 100)  # the first pays for what is loaded late
                for _ in range(options.rounds):
                    for kind, name in ((_READ, "records read"), (_LOOKED, "records looked at")):
                        await _contexts(site, kind, name, findings)
                    for size in (_SMALL, _LARGE):
                        rate = await _results(site, clients, size, _RESULTS)
                        findings.add("cgworker", "turns with a result", "1/s", rate, at=size)
                await _memory(site, clients, findings)
            await site.database.close()
    _check_goals(findings)
    return findings


async def _contexts(site: Site, kind: str, name: str, findings: Findings) -> None:
    await site.database.execute(QUEUE, PROJECT, _CONTEXTS, _RECORDS, kind)
    await site.database.execute("analyze cg_turns, cg_records")
    assert site.server.pid is not None
    before = cpu_seconds(site.server.pid), cpu_seconds(site.postgres.pid)
    worker = await _work_off(site, _SMALL)
    kernel, database = cpu_seconds(site.server.pid) - before[0], cpu_seconds(site.postgres.pid) - before[1]
    parts = {"worker": worker, "kernel": kernel, "PostgreSQL": database, "worker and kernel": worker + kernel}
    for part, seconds in parts.items():
        findings.add("cgworker", f"CPU of 1,000 {name}: {part}", "ms", seconds / _CONTEXTS * 1000)


async def _results(site: Site, clients: list[Caller], size: int, count: int) -> float:
    """Turns a second that end in a text of this size."""

    async def queue(caller: Caller) -> None:
        for _ in range(count // len(clients)):
            await caller.dispatch(site.agent)

    await asyncio.gather(*map(queue, clients))
    since = await site.database.fetchval("select clock_timestamp()")
    await _work_off(site, size)
    rate: float = await site.database.fetchval(RATE_SINCE, since)
    return rate


async def _work_off(site: Site, size: int) -> float:
    """Work off all queued turns by a worker process; returns its CPU time in seconds."""
    ref = site.agent.ref
    asked = {"url": site.server.url, "project_id": ref.project_id, "agent_id": ref.agent_id}
    program = [sys.executable, "-m", "benchmarks.harnesses.large_turns"]
    async with running_program(program, {**asked, "token": site.agent.token, "size": size}) as process:
        while await site.database.fetchval(COUNT_OPEN):  # noqa: ASYNC110  # it can only be asked
            await asyncio.sleep(0.1)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        seconds: float = await read_answer(process)
        return seconds


async def _memory(site: Site, clients: list[Caller], findings: Findings) -> None:
    """Eight clients dispatch, claim and finish turns of 8 MB at once, twice."""
    assert site.server.pid is not None
    findings.add("cgworker", "kernel before payloads of 8 MB", "MiB", memory_mib(site.server.pid))
    text = {"text": text_of(_HUGE)}

    async def turn(caller: Caller) -> None:
        await caller.dispatch(site.agent, text)
        await caller.finish(await caller.claim(with_context=True), text)

    for _ in range(2):
        await asyncio.gather(*map(turn, clients))
    findings.add("cgworker", "kernel at their end", "MiB", memory_mib(site.server.pid))
    await asyncio.sleep(_SECONDS_TO_REST)
    findings.add("cgworker", "kernel 25 s later", "MiB", memory_mib(site.server.pid))


def _check_goals(findings: Findings) -> None:
    def median(what: str, **at: Any) -> float:
        return findings.median("cgworker", what, **at)

    cpu = median("CPU of 1,000 records read: worker and kernel")
    findings.judge_most("1,000 records: ≤ 15 ms CPU of worker and kernel", cpu, "ms", most=15)
    rates = {size: median("turns with a result", at=size) for size in (_SMALL, _LARGE)}
    findings.judge_ratio("32 KB ≥ 0.7 × the rate of 1 KB", rates[_LARGE] / rates[_SMALL], least=0.7)
    growth = median("kernel 25 s later") / median("kernel before payloads of 8 MB")
    findings.judge("memory within 20 % of its start", f"{growth:.3g} ×", is_met=growth <= 1.2)


if __name__ == "__main__":
    main(ROW, measure)
