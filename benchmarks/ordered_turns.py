"""Row 14: order. Claims among 1,000,000 queued turns with serial and fairness keys, beside an empty database.

The turns are written into the database as dispatches leave them. One agent claims and finishes these, so that
each finish makes the next turn of its serial key ready; another dispatches a turn and claims it. The two
alternate on one kernel.

The peers take jobs out of tables with as many: pgqueuer of 1,000 priorities, Procrastinate of 1,000
priorities and 100,000 locks. They have no HTTP and no identities: only each one's own ratio says something.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
from pathlib import Path

import asyncpg

from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import (
    PROJECT,
    ROOT,
    Postgres,
    absent,
    new_database,
    peer_python,
    running_kernel,
    running_postgres,
)

ROW = Row(
    14,
    "a claim among 1,000,000 queued turns with 100,000 serial and 1,000 fairness keys",
    "≤ 1.5 × the empty database",
)

_CYCLES = 200
_QUEUED_COUNT = 1_000_000
_PEERS = {"pgqueuer": _CYCLES, "procrastinate": 10}  # a claim of Procrastinate's takes long
_PROGRAMS = Path(__file__).with_name("queues")
_SECONDS = 300
_FULL, _EMPTY = "bench-order-full", "bench-order-empty"

# The first turn of each serial key is ready and has a place in the fair order; the others wait for it.
_QUEUED = f"""
insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind, cause_kind,
    cause_id, spawn_key, state, record_count, created_at, updated_at, serial_key, fairness_key, fair_number,
    waits_for_key)
select '{PROJECT}', 1000000 + n, '{_FULL}', '{_FULL}', 'turn.conversation.v1', 'external_request', 'c' || n,
    's' || n, 'queued', 1, now(), now(), 'serial-' || n % 100000, 'fair-' || n % 1000,
    case when n <= 100000 then n / 1000 + 1 else 0 end, n > 100000
from generate_series(1, {_QUEUED_COUNT}) n
"""


async def measure(options: Options) -> Findings:
    """The middle of many claims, of an agent with a long queue and of one with none."""
    findings = Findings()
    with running_postgres() as postgres:
        if python := peer_python("queues"):
            for peer, cycle_count in _PEERS.items():
                await _note_peer(python, peer, cycle_count, postgres, findings)
        else:
            findings.absent.append(absent("queues"))
        dsn = await new_database(postgres)
        with running_kernel(dsn) as server:
            agents = [await server.admit(name, capacity=5) for name in (_EMPTY, _FULL)]
            await _fill(dsn)
            async with callers(server, agents) as (empty, full):
                for _ in range(options.rounds):
                    took = {"empty": [0.0] * _CYCLES, "1,000,000 queued": [0.0] * _CYCLES}
                    for cycle in range(_CYCLES):
                        await empty.dispatch(empty.agent)
                        took["empty"][cycle] = await _claim_seconds(empty)
                        took["1,000,000 queued"][cycle] = await _claim_seconds(full)
                    for where, seconds in took.items():
                        findings.add("cgworker", f"claim, {where}", "ms", statistics.median(seconds) * 1000)
    found = [findings.median("cgworker", f"claim, {where}") for where in ("empty", "1,000,000 queued")]
    findings.judge_most("claim ≤ 1.5 × the empty database", found[1] / found[0], "×", most=1.5)
    return findings


async def _note_peer(
    python: str, peer: str, cycle_count: int, postgres: Postgres, findings: Findings
) -> None:
    asked = {"dsn": await new_database(postgres), "job_count": _QUEUED_COUNT, "cycle_count": cycle_count}
    done = await asyncio.to_thread(
        subprocess.run,
        [python, str(_PROGRAMS / f"{peer}_ordered.py")],
        input=json.dumps(asked) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=_SECONDS,
        check=True,
    )
    took = json.loads(done.stdout)
    findings.add(peer, "claim, empty", "ms", took["empty"])
    findings.add(peer, "claim, 1,000,000 queued", "ms", took["full"])


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, command_timeout=300)
    await connection.execute(_QUEUED)
    await connection.execute("vacuum analyze cg_turns")
    await connection.close()


async def _claim_seconds(caller: Caller) -> float:
    begun = time.perf_counter()
    claim = await caller.claim()
    took = time.perf_counter() - begun
    await caller.finish(claim)
    return took


if __name__ == "__main__":
    main(ROW, measure, rounds=2)
