"""Row 3: one worker process with 16 agents works off queued turns, beside the SQL queues with as many jobs.

pgqueuer and Procrastinate have the same PostgreSQL server, a new database each round, and jobs that do
nothing. Queueing is not counted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.load import callers
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    ROOT,
    Agent,
    Postgres,
    Server,
    a_postgres,
    absent,
    kernel_of,
    new_database,
    peer_python,
)

ROW = Row(
    3,
    "queued turns of 16 agents in one worker process, handler that does nothing",
    "≥ 1 × pgqueuer, ≥ 8 × Procrastinate; worker CPU ≤ 1 ms a turn",
)

_AGENTS = 16
_CAPACITIES = (1, 10)  # how many turns an agent may hold: the default, and one where claims are many at once
_TURNS = 5_000
_PEER_JOBS = {"pgqueuer": 5_000, "procrastinate": 1_000}
_PROGRAMS = Path(__file__).with_name("queues")
_SECONDS = 300


async def measure(options: Options) -> Findings:
    """Turns or jobs a second, and the CPU time of the worker's process for each."""
    findings = Findings()
    python = peer_python("queues")
    if python is None:
        findings.absent.append(absent("queues"))
    with a_postgres() as postgres:
        async with kernel_of(options, postgres) as server:
            agents = {capacity: await _admit(server, capacity) for capacity in _CAPACITIES}
            for _ in range(options.rounds):
                for capacity, admitted in agents.items():
                    await _round(server, admitted, capacity, findings)
                if python is not None:
                    await _round_of_peers(python, postgres, findings)
    _judge(findings)
    return findings


async def _admit(server: Server, capacity: int) -> list[Agent]:
    names = (f"bench-{capacity}-{number}" for number in range(_AGENTS))
    return [await server.admit(name, capacity=capacity) for name in names]


async def _round(server: Server, agents: list[Agent], capacity: int, findings: Findings) -> None:
    await _queue_turns(server, agents)
    known = [{"token": agent.token, **_names_of(agent)} for agent in agents]
    asked = {"url": server.url, "agents": known, "count": _AGENTS * (_TURNS // _AGENTS)}
    program = [sys.executable, str(_PROGRAMS / "worker_turns.py")]
    await _work("cgworker", program, asked, findings, where=_where(capacity))


async def _round_of_peers(python: str, postgres: Postgres, findings: Findings) -> None:
    for name, count in _PEER_JOBS.items():
        asked = {"dsn": await new_database(postgres), "count": count}
        await _work(name, [python, str(_PROGRAMS / f"{name}_jobs.py")], asked, findings)


async def _queue_turns(server: Server, agents: list[Agent]) -> None:
    async with callers(server, agents) as found, asyncio.TaskGroup() as group:
        for caller in found:
            group.create_task(_dispatch_all(caller))


async def _dispatch_all(caller: Any) -> None:
    for _ in range(_TURNS // _AGENTS):
        await caller.dispatch(caller.agent)


def _names_of(agent: Agent) -> dict[str, str]:
    return {"project_id": agent.ref.project_id, "agent_id": agent.ref.agent_id}


async def _work(
    who: str, program: list[str], asked: dict[str, Any], findings: Findings, *, where: str = ""
) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        program,
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=_SECONDS,
        check=True,
    )
    took = json.loads(done.stdout.splitlines()[-1])
    findings.add(who, f"closed{where}", "1/s", asked["count"] / took["seconds"])
    findings.add(who, f"worker CPU{where}", "ms", took["cpu_seconds"] / asked["count"] * 1000)


def _where(capacity: int) -> str:
    return f", {capacity} at once an agent"


def _judge(findings: Findings) -> None:
    for capacity in _CAPACITIES:
        where = _where(capacity)
        ours, cpu = (findings.median("cgworker", f"{what}{where}") for what in ("closed", "worker CPU"))
        findings.judge_ratio(f"≥ 1 × pgqueuer{where}", ours / findings.median("pgqueuer", "closed"), least=1)
        findings.judge_ratio(
            f"≥ 8 × Procrastinate{where}", ours / findings.median("procrastinate", "closed"), least=8
        )
        findings.judge_most(f"worker CPU ≤ 1 ms a turn{where}", cpu, "ms", most=1)


if __name__ == "__main__":
    main(ROW, measure)
