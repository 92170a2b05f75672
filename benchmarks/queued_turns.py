"""Row 3: one worker process with 16 agents works off queued turns, beside the SQL queues with as many jobs.

The build that row 11 compares with does the same, with a kernel and a worker of its own. pgqueuer,
Procrastinate, Absurd and DBOS have the same PostgreSQL server, a new database each round, and jobs that do
nothing. Absurd and DBOS keep a result for each job, as we do. Queueing is not counted.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.load import callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.servers import (
    ROOT,
    Agent,
    Postgres,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_kernel,
    running_postgres,
)

ROW = Row(
    3,
    "queued turns of 16 agents in one worker process, handler that does nothing",
    "one turn at once an agent: ≥ 0.3 × pgqueuer, 1.8 × Absurd; ten: ≥ 0.5 × pgqueuer, 3 × Absurd, 5 × DBOS;"
    " both: ≥ 2 × f7e32f1, worker CPU ≤ 1 ms a turn",
)

_AGENTS = 16
_CAPACITIES = (1, 10)  # how many turns an agent may hold: the default, and one where claims are many at once
_TURNS = 5_000
_PEER_JOBS = {"pgqueuer": 5_000, "procrastinate": 1_000, "absurd": 1_500, "dbos": 1_000}
# How many times as fast as each peer, by capacity.
_GOALS = {
    1: {"pgqueuer": 0.3, "absurd": 1.8, "f7e32f1": 2.0},
    10: {"pgqueuer": 0.5, "absurd": 3.0, "dbos": 5.0, "f7e32f1": 2.0},
}
_PROGRAMS = Path(__file__).with_name("queues")
_SECONDS = 300


@frozen
class Build:
    """A build of cgworker: the Python that has it, its kernel, and its agents by their capacity."""

    name: str
    python: str
    server: Server
    agents: Mapping[int, list[Agent]]


async def measure(options: Options) -> Findings:
    """Turns or jobs a second, and the CPU time of worker, kernel and PostgreSQL for each."""
    findings = Findings()
    queues, baseline = peer_python("queues"), peer_python("baseline")
    findings.absent += [
        absent(name) for name, python in (("queues", queues), ("baseline", baseline)) if python is None
    ]
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        ours = await stack.enter_async_context(kernel_of(options, postgres))
        builds = [await _build("cgworker", sys.executable, ours)]
        if baseline is not None:
            theirs = stack.enter_context(running_kernel(await new_database(postgres), python=baseline))
            builds.append(await _build("f7e32f1", baseline, theirs))
        for _ in range(options.rounds):
            for capacity in _CAPACITIES:
                for build in builds:
                    await _round(build, postgres, capacity, findings)
            if queues is not None:
                await _round_of_peers(queues, postgres, findings)
    _check_goals(findings)
    return findings


async def _build(name: str, python: str, server: Server) -> Build:
    agents = {
        capacity: [
            await server.admit(f"bench-{capacity}-{number}", capacity=capacity) for number in range(_AGENTS)
        ]
        for capacity in _CAPACITIES
    }
    return Build(name, python, server, agents)


async def _round(build: Build, postgres: Postgres, capacity: int, findings: Findings) -> None:
    agents = build.agents[capacity]
    await _queue_turns(build.server, agents)
    known = [{"token": agent.token, **_names_of(agent)} for agent in agents]
    asked = {"url": build.server.url, "agents": known, "count": _AGENTS * (_TURNS // _AGENTS)}
    program = [build.python, str(_PROGRAMS / "worker_turns.py")]
    servers = {"PostgreSQL": postgres.pid, "kernel": build.server.pid}
    await _work(build.name, program, asked, servers, findings, where=_where(capacity))


async def _round_of_peers(python: str, postgres: Postgres, findings: Findings) -> None:
    for name, count in _PEER_JOBS.items():
        asked = {"dsn": await new_database(postgres), "count": count}
        program = [python, str(_PROGRAMS / f"{name}_jobs.py")]
        await _work(name, program, asked, {"PostgreSQL": postgres.pid}, findings)


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
    who: str,
    program: list[str],
    asked: dict[str, Any],
    servers: Mapping[str, int | None],
    findings: Findings,
    *,
    where: str = "",
) -> None:
    pids = {name: pid for name, pid in servers.items() if pid is not None}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
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
    for name, pid in pids.items():
        used = cpu_seconds(pid) - before[name]
        findings.add(who, f"{name} CPU{where}", "ms", used / asked["count"] * 1000)


def _where(capacity: int) -> str:
    return f", {capacity} at once an agent"


def _check_goals(findings: Findings) -> None:
    for capacity, goals in _GOALS.items():
        where = _where(capacity)
        ours, cpu = (findings.median("cgworker", f"{what}{where}") for what in ("closed", "worker CPU"))
        for who, least in goals.items():
            theirs = findings.median(who, f"closed{where}" if who == "f7e32f1" else "closed")
            findings.judge_ratio(f"≥ {least:g} × {who}{where}", ours / theirs, least=least)
        findings.judge_most(f"worker CPU ≤ 1 ms a turn{where}", cpu, "ms", most=1)


if __name__ == "__main__":
    main(ROW, measure)
