"""Row 8: one worker process that holds sleeping turns of thousands of agents, and keeps their leases."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from benchmarks.load import callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main, memory_mib
from benchmarks.servers import PROJECT, ROOT, Agent, Server, new_database, running_kernel, running_postgres
from cgworker import AgentRef

ROW = Row(
    8,
    "10,000 sleeping turns of 10,000 agents held by one worker process for 3 minutes, leases of 30 s",
    "no lease lost, ≤ 60 KB memory a turn, kernel and worker together ≤ 1 core",
)

_COUNT = int(os.environ.get("CG_HELD_TURNS", "10000"))
_SECONDS = float(os.environ.get("CG_HELD_SECONDS", "180"))
_DISPATCHERS = 8
_START_SECONDS = 200.0
_PROGRAM = Path(__file__).with_name("queues") / "held_turns.py"

# The agents and their credentials, as `admit` would make them one by one.
ADMIT = """
with agents as (
    insert into cg_agents (project_id, agent_id, role, enabled, accepts_work, capacity, capabilities, grants,
        public_metadata)
    select $1, 'holder-' || n, 'bench', true, true, 1, '{turn.conversation.v1}', '{}', '{}'
    from generate_series(1, $2::int) n
)
insert into cg_credentials (credential_id, project_id, agent_id, secret_hash, status, provenance_kind)
select 'cred_holder_' || n, $1, 'holder-' || n, $3, 'active', 'bench'
from generate_series(1, $2::int) n
"""


async def measure(options: Options) -> Findings:
    """Memory, CPU and lost leases, in one round: it takes minutes, and noise evens out in them."""
    findings = Findings()
    if options.url is not None:
        findings.notes.append("this row starts a kernel of its own: it writes its agents into the database")
    with running_postgres() as postgres:
        dsn = await new_database(postgres)
        with running_kernel(dsn, CG_CLAIM_TIMEOUT_SECONDS="30") as server:
            agents = await _admitted(dsn)
            await _dispatch_to_all(server, agents)
            await _hold(server, agents, postgres.pid, findings)
    _check_goals(findings)
    return findings


async def _admitted(dsn: str) -> list[Agent]:
    secret = secrets.token_urlsafe(32)
    connection = await asyncpg.connect(dsn)
    prepared = await connection.prepare(ADMIT)
    await prepared.fetch(PROJECT, _COUNT, hashlib.sha256(secret.encode()).digest())
    await connection.close()
    return [
        Agent(AgentRef(project_id=PROJECT, agent_id=f"holder-{n}"), f"cgac_cred_holder_{n}.{secret}")
        for n in range(1, _COUNT + 1)
    ]


async def _dispatch_to_all(server: Server, agents: list[Agent]) -> None:
    async with callers(server, [server.operator] * _DISPATCHERS) as found, asyncio.TaskGroup() as group:
        for number, caller in enumerate(found):
            group.create_task(_dispatch(caller, agents[number::_DISPATCHERS]))


async def _dispatch(caller: Any, targets: list[Agent]) -> None:
    for target in targets:
        await caller.dispatch(target)


async def _hold(server: Server, agents: list[Agent], postgres_pid: int, findings: Findings) -> None:
    """Start the worker's process, wait until it holds everything, and watch for a while."""
    asked = {
        "url": server.url,
        "project_id": PROJECT,
        "agents": [(agent.ref.agent_id, agent.token) for agent in agents],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asked, file)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_PROGRAM), file.name, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            begun = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
            before = json.loads(begun)
            await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
            pids = {"worker": process.pid, "kernel": server.pid or 0, "PostgreSQL": postgres_pid}
            used = {who: cpu_seconds(pid) for who, pid in pids.items()}
            asked_before = await _request_count(server)
            await asyncio.sleep(_SECONDS)
            answered = await _request_count(server) - asked_before
            findings.add("cgworker", "requests", "1/s", answered / _SECONDS)
            for who, pid in pids.items():
                findings.add("cgworker", f"CPU, {who}", "cores", (cpu_seconds(pid) - used[who]) / _SECONDS)
            kib = (memory_mib(process.pid) - before["memory_mib"]) * 1024 / len(agents)
            findings.add("cgworker", "memory a turn", "KB", kib * 1.024)
            findings.add("cgworker", "kernel's memory", "MiB", memory_mib(server.pid or 0))
        finally:
            process.terminate()
        ended = json.loads((await process.stdout.readline()) or b"{}")
        findings.add("cgworker", "held at the end", "turns", ended.get("held", 0))
        findings.add("cgworker", "leases lost", "turns", ended.get("lost", len(agents)))
        await process.wait()


async def _request_count(server: Server) -> float:
    """What the kernel has answered so far."""
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{server.url}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("cg_requests_total{"))


def _check_goals(findings: Findings) -> None:
    findings.judge_most("no lease lost", findings.median("cgworker", "leases lost"), "lost", most=0)
    findings.judge_most("≤ 60 KB a turn", findings.median("cgworker", "memory a turn"), "KB", most=60)
    cores = sum(findings.median("cgworker", f"CPU, {who}") for who in ("worker", "kernel"))
    findings.judge_most("kernel and worker together ≤ 1 core", cores, "cores", most=1)


if __name__ == "__main__":
    main(ROW, measure, rounds=1)
