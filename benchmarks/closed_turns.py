"""Row 1: turns closed in a second over the single-turn routes, by connections.

Each connection is an agent of its own that dispatches to itself, claims with context, and finishes. Beside
our kernel: the reference's, and what the same database does without HTTP, identity or answers: each verb's
own statement, prepared, on as many bare asyncpg connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from attrs import frozen

from benchmarks.bare import bare_turns
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.servers import (
    Postgres,
    Server,
    absent,
    kernel_of,
    new_database,
    peer_python,
    running_postgres,
    running_reference,
)

ROW = Row(
    1,
    "closed turns over HTTP, single-turn routes, 16 connections",
    "≥ 50 × the reference and ≥ 1 × bare asyncpg",
)
CONNECTIONS = 16
CURVE = (1, 4, CONNECTIONS, 64)

_WARM_SECONDS = 1.0
_SECONDS = 4.0


@frozen
class Contestant:
    """Who closes turns, on how many connections; `pid` is its server's, if it has one of its own."""

    name: str
    run: Callable[[int, float], Awaitable[float]]
    pid: int | None = None


async def measure(options: Options) -> Findings:
    """Closed turns a second of each, and where the CPU time of ours goes."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        contestants = await _contestants(stack, options, postgres, findings)
        for contestant in contestants:
            await contestant.run(CONNECTIONS, _WARM_SECONDS)
        for _ in range(options.rounds):
            for contestant in contestants:
                await _round(contestant, postgres, findings)
        for count in CURVE * 2:
            for contestant in contestants:
                findings.add(
                    contestant.name,
                    "by connections",
                    "1/s",
                    await contestant.run(count, _SECONDS / 2),
                    at=count,
                )
    _check_goals(findings)
    return findings


async def _contestants(
    stack: AsyncExitStack, options: Options, postgres: Postgres, findings: Findings
) -> list[Contestant]:
    ours = await stack.enter_async_context(kernel_of(options, postgres))
    bare = await stack.enter_async_context(bare_turns(await new_database(postgres), max(CURVE)))
    found = [
        Contestant("cgworker", await _turns_of(ours), ours.pid),
        Contestant("bare asyncpg", bare),
    ]
    if python := peer_python("reference"):
        theirs = stack.enter_context(running_reference(python, await new_database(postgres)))
        found.append(Contestant("reference", await _turns_of(theirs), theirs.pid))
        dsn = await new_database(postgres)
        helped = stack.enter_context(running_reference(python, dsn, storage="open"))
        found.append(Contestant("reference, storage kept open", await _turns_of(helped), helped.pid))
    else:
        findings.absent.append(absent("reference"))
    return found


async def _round(contestant: Contestant, postgres: Postgres, findings: Findings) -> None:
    before = _cpu(contestant, postgres)
    closed = await contestant.run(CONNECTIONS, _SECONDS)
    after = _cpu(contestant, postgres)
    findings.add(contestant.name, "closed turns", "1/s", closed)
    for part, spent in after.items():
        share = (spent - before[part]) / (closed * _SECONDS) * 1000
        findings.add(contestant.name, f"CPU a turn, {part}", "ms", share)


def _cpu(contestant: Contestant, postgres: Postgres) -> dict[str, float]:
    used = {"load generator": time.process_time(), "PostgreSQL": cpu_seconds(postgres.pid)}
    return used if contestant.pid is None else {**used, "kernel": cpu_seconds(contestant.pid)}


def _check_goals(findings: Findings) -> None:
    ours, theirs, bare = (
        findings.median(who, "closed turns") for who in ("cgworker", "reference", "bare asyncpg")
    )
    findings.judge_ratio("≥ 50 × the reference", ours / theirs, least=50)
    findings.judge_ratio("≥ 1 × bare asyncpg", ours / bare, least=1)


async def _turns_of(server: Server) -> Callable[[int, float], Awaitable[float]]:
    """Closes turns at a kernel; returns how many in a second."""
    agents = [await server.admit(f"bench-{number}") for number in range(max(CURVE))]

    async def run(connection_count: int, seconds: float) -> float:
        async with callers(server, agents[:connection_count]) as found:
            return await closed_a_second(found, seconds)

    return run


async def closed_a_second(found: list[Caller], seconds: float) -> float:
    """How many turns the callers close in a second, each one after the other."""
    begun = time.perf_counter()
    counts = await asyncio.gather(*(_close_turns(caller, begun + seconds) for caller in found))
    return sum(counts) / (time.perf_counter() - begun)


async def _close_turns(caller: Caller, until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        await caller.dispatch(caller.agent)
        await caller.finish(await caller.claim(with_context=True))
        count += 1
    return count


if __name__ == "__main__":
    main(ROW, measure)
