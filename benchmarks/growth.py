"""Row 7: what a full database costs a request, beside an all but empty one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from attrs import frozen

from benchmarks.filling import FULL, Size, fill
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import Agent, Server, a_kernel, a_postgres, new_database

ROW = Row(
    7,
    "growth: 1,000,000 turns, 5,000,000 events, 100,000 records in one turn, 10,000 agents",
    "claim, context page, feed page, lineage, projections each ≤ 1.5 × an empty database",
)

# All but empty: pages are as long as on the full one, so that as much is answered.
EMPTY = Size(turn_count=2_000, event_count=10_000, record_count=200, agent_count=100)
BETWEEN = Size(turn_count=50_000, event_count=250_000, record_count=5_000, agent_count=1_000)
MOST_RATIO = 1.5

_TIMES = 40


@frozen
class Site:
    """A kernel on a database of some size, and an agent there."""

    size: Size
    server: Server
    agent: Agent


async def measure(options: Options) -> Findings:
    """The median of each request at each size, in alternation."""
    findings = Findings()
    if options.url:
        findings.notes.append("this row fills databases, so it starts its own and leaves --url alone")
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(a_postgres())
        sites = []
        for size in (EMPTY, BETWEEN, FULL):
            dsn = await new_database(postgres)
            server = stack.enter_context(a_kernel(dsn))
            await fill(dsn, size)
            sites.append(Site(size, server, await server.admit("bench-growth")))
        for site in sites:
            await _round(site)
        for _ in range(options.rounds):
            for site in sites:
                for what, seconds in (await _round(site)).items():
                    findings.add("cgworker", what, "ms", seconds * 1000, at=site.size.turn_count)
    for what in _reads(FULL):
        _judge(what, findings)
    _judge("claim with context", findings)
    return findings


def _judge(what: str, findings: Findings) -> None:
    full, empty = (findings.median("cgworker", what, at=size.turn_count) for size in (FULL, EMPTY))
    came_to = f"{full / empty:.2f} × ({empty:.2f} → {full:.2f} ms)"
    findings.judge(f"{what} ≤ {MOST_RATIO} ×", came_to, is_met=full <= MOST_RATIO * empty)


async def _round(site: Site) -> Mapping[str, float]:
    async with callers(site.server, [site.agent]) as (caller,):
        reads = {
            what: await _median(lambda path=path: caller.get(path))  # type: ignore[misc]  # bound at once
            for what, path in _reads(site.size).items()
        }
        return {**reads, "claim with context": await _claiming(caller)}


def _reads(size: Size) -> Mapping[str, str]:
    """What is read, and where."""
    last = f"/turns/T-{size.turn_count}"
    return {
        "context page of 100": f"{last}/context?after_turn_seq={size.record_count - 100}&limit=100",
        "project feed page of 100": f"/projection/feed?after_ledger_seq={size.event_count - 200}&limit=100",
        "agent feed page of 100": "/agents/agent-7/feed?limit=100",
        "lineage of a turn with ten children": "/projection/turns/T-7/lineage",
        "turns, 20 queued": "/projection/turns?state=queued&limit=20",
        "turns of an agent": "/projection/turns?target_agent_id=agent-7&limit=20",
        "agents, 100": "/projection/agents?limit=100",
    }


async def _claiming(caller: Caller) -> float:
    """The median time of a claim that finds a turn."""
    spent = []
    for _ in range(_TIMES):
        await caller.dispatch(caller.agent)
        begun = time.perf_counter()
        claim = await caller.claim(with_context=True)
        spent.append(time.perf_counter() - begun)
        await caller.finish(claim)
    return statistics.median(spent)


async def _median(ask: Callable[[], Awaitable[Any]]) -> float:
    spent = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        await ask()
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


if __name__ == "__main__":
    main(ROW, measure)
