"""Row 13: time. What turns that sleep and schedules cost, and how long a turn that is due waits for a worker.

A worker of 16 agents works off 2,000 turns that are due at one instant, for which it waits, and as many that
are queued when it begins.

The peers queue their job for later themselves (pgqueuer: execute_after, Procrastinate: schedule_in, DBOS:
delay_seconds, looking 50 times a second). How late one runs counts from the instant that the system itself
keeps for it, on the one machine's clock.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.pick_up import read_answer, running_program
from benchmarks.servers import (
    PROJECT,
    ROOT,
    Agent,
    Server,
    absent,
    new_database,
    peer_python,
    running_kernel,
    running_postgres,
)
from cgworker.wire.turns import Dispatch, RootRequest

ROW = Row(
    13,
    "100,000 sleeping turns and 10,000 schedules; a turn that is due → handler running",
    "idle CPU ≤ 1 %; due turns at ≥ 0.8 × the rate of plain ones; pick-up ahead of each peer by 2 ×",
)

_PEERS = ("pgqueuer", "procrastinate", "dbos")
_PROGRAMS = Path(__file__).with_name("queues")
_DELAY_SECONDS = 0.3
_COUNT = 20
_WAIT_SECONDS = 20.0
_IDLE_SECONDS = 30.0

_AGENTS, _CAPACITY, _TURNS = 16, 10, 2_000
_AHEAD_SECONDS = 15.0  # by then all are dispatched, and a worker waits for them
_START_SECONDS = 4.0
_WORK_SECONDS = 120.0

_SLEEPING = """
insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind, cause_kind,
    cause_id, spawn_key, state, record_count, created_at, updated_at, due_at)
select $1, 1000000 + n, 'sleeper', 'sleeper', 'turn.conversation.v1', 'external_request', 'c' || n, 's' || n,
    'suspended', 1, now(), now(), now() + interval '1 hour' + n * interval '1 minute'
from generate_series(1, 100000) n
"""
_SCHEDULES = """
insert into cg_schedules (project_id, schedule_id, requested_by_agent_id, cron, timezone, anchor_at,
    target_agent_id, turn_kind, input, turn_order, overlap, catch_up, jitter_seconds, next_at, due_at)
select $1, 'schedule-' || n, 'sleeper', '@every 10000m', 'UTC', now(), 'sleeper', 'turn.conversation.v1',
    '{}', '{}', 'queue', 'last', 0, now() + interval '1 hour' + n * interval '1 minute',
    now() + interval '1 hour' + n * interval '1 minute'
from generate_series(1, 10000) n
"""

Contestant = Callable[[], Awaitable[float]]


async def measure(options: Options) -> Findings:
    """The idle CPU of a kernel with and without them, and the middle and 95th of many pick-ups."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        dsn = await new_database(postgres)
        ours = stack.enter_context(running_kernel(dsn))
        await _idle(findings, ours, "idle CPU, empty")
        await _fill(dsn)
        await _idle(findings, ours, "idle CPU, 100,000 sleeping turns and 10,000 schedules")
        contestants = {"cgworker": await stack.enter_async_context(_our_worker(ours))}
        if python := peer_python("queues"):
            for peer in _PEERS:
                asked = {"dsn": await new_database(postgres), "delay_seconds": _DELAY_SECONDS}
                program = [python, str(_PROGRAMS / f"{peer}_delayed.py")]
                contestants[peer] = await stack.enter_async_context(_a_peer(program, asked))
        else:
            findings.absent.append(absent("queues"))
        agents = [await ours.admit(f"bench-many-{n}", capacity=_CAPACITY) for n in range(_AGENTS)]
        for _ in range(options.rounds):
            findings.add("cgworker", "plain turns", "1/s", await _rate_of_plain(ours, agents))
            findings.add("cgworker", "due turns", "1/s", await _rate_of_due(ours, agents))
        for _ in range(options.rounds):
            for who, pick_up in contestants.items():
                late = sorted(
                    [await asyncio.wait_for(pick_up(), _WAIT_SECONDS) * 1000 for _ in range(_COUNT)]
                )
                findings.add(who, "late, p50", "ms", statistics.median(late))
                findings.add(who, "late, p95", "ms", late[int(0.95 * (len(late) - 1))])
    _check_goals(findings)
    return findings


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in (_SLEEPING, _SCHEDULES):
        await connection.execute(statement.replace("$1", f"'{PROJECT}'"))
    await connection.execute("vacuum analyze")
    await connection.close()
    await asyncio.sleep(15)  # until the timer has looked again


async def _idle(findings: Findings, server: Server, what: str) -> None:
    assert server.pid is not None
    begun, used = time.monotonic(), cpu_seconds(server.pid)
    await asyncio.sleep(_IDLE_SECONDS)
    share = (cpu_seconds(server.pid) - used) / (time.monotonic() - begun) * 100
    findings.add("cgworker", what, "%", share)


async def _rate_of_plain(server: Server, agents: list[Agent]) -> float:
    await _dispatch_all(server, agents)
    return _TURNS / float((await _work(server, agents))["seconds"])


async def _rate_of_due(server: Server, agents: list[Agent]) -> float:
    due = datetime.now(UTC) + timedelta(seconds=_AHEAD_SECONDS)
    await _dispatch_all(server, agents, not_before=due.isoformat())
    await asyncio.sleep(due.timestamp() - time.time() - _START_SECONDS)  # until a worker has to start
    return _TURNS / (float((await _work(server, agents))["ended_at"]) - due.timestamp())


async def _dispatch_all(server: Server, agents: list[Agent], **order: Any) -> None:
    async def dispatch(caller: Caller) -> None:
        for _ in range(_TURNS // _AGENTS):
            await caller.dispatch(caller.agent, **order)

    async with callers(server, agents) as found, asyncio.TaskGroup() as group:
        for caller in found:
            group.create_task(dispatch(caller))


async def _work(server: Server, agents: list[Agent]) -> dict[str, float]:
    known = [{"token": each.token, "agent_id": each.ref.agent_id, "project_id": PROJECT} for each in agents]
    asked = {"url": server.url, "agents": known, "count": _TURNS}
    program = [sys.executable, str(_PROGRAMS / "worker_turns.py")]
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(process.communicate(json.dumps(asked).encode()), _WORK_SECONDS)
    took: dict[str, float] = json.loads(told.splitlines()[-1])
    return took


@asynccontextmanager
async def _our_worker(server: Server) -> AsyncIterator[Contestant]:
    agent = await server.admit(f"bench-due-{secrets.token_hex(2)}")
    asked = {
        "url": server.url,
        "token": agent.token,
        "agent_id": agent.ref.agent_id,
        "project_id": server.project_id,
    }
    async with (
        running_program([sys.executable, str(_PROGRAMS / "idle_worker.py")], asked) as process,
        server.client(agent) as kernel,
    ):

        async def pick_up() -> float:
            key = secrets.token_hex(8)
            dispatched = await kernel.turns.dispatch(
                Dispatch(
                    requested_by=agent.ref,
                    target_agent=agent.ref,
                    input={},
                    dispatch_key=key,
                    authority=RootRequest(request_id=key),
                    delay_seconds=_DELAY_SECONDS,
                )
            )
            due_at = (await kernel.turns.get(dispatched)).not_before
            assert isinstance(due_at, datetime)
            handled_at: float = (await read_answer(process))["handled_at"]
            return handled_at - due_at.timestamp()

        yield pick_up


@asynccontextmanager
async def _a_peer(program: list[str], asked: dict[str, object]) -> AsyncIterator[Contestant]:
    async with running_program(program, asked) as process:

        async def pick_up() -> float:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            told = await read_answer(process)
            return float(told["handled_at"]) - float(told["due_at"])

        yield pick_up


def _check_goals(findings: Findings) -> None:
    idle = findings.median("cgworker", "idle CPU, 100,000 sleeping turns and 10,000 schedules")
    findings.judge_most("idle CPU ≤ 1 %", idle, "%", most=1)
    due, plain = (findings.median("cgworker", what) for what in ("due turns", "plain turns"))
    findings.judge_ratio("due turns ≥ 0.8 × the rate of plain ones", due / plain, least=0.8)
    ours = findings.median("cgworker", "late, p50")
    for peer in _PEERS:
        ratio = findings.median(peer, "late, p50") / ours
        findings.judge_ratio(f"ahead of {peer} by 2 ×", ratio, least=2)


if __name__ == "__main__":
    main(ROW, measure, rounds=2)
