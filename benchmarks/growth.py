"""Row 7: what a full database costs a request, beside an all but empty one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from attrs import frozen

from benchmarks.filling import FULL, Size, fill
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import Agent, Server, new_database, running_kernel, running_postgres

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

Request = Callable[[], Awaitable[float]]


@frozen
class Site:
    """A kernel on a database of some size, and what is asked of it, by name."""

    size: Size
    requests: Mapping[str, Request]


async def measure(options: Options) -> Findings:
    """The median of each request at each size; the sizes take turns at every request."""
    findings = Findings()
    if options.url:
        findings.notes.append("this row fills databases, so it starts its own and leaves --url alone")
    async with AsyncExitStack() as stack:
        sites = await _fill_sites(stack)
        await _round(sites, Findings())
        for _ in range(options.rounds):
            await _round(sites, findings)
    for what in sites[0].requests:
        _check_goals(what, findings)
    return findings


async def _fill_sites(stack: AsyncExitStack) -> list[Site]:
    """A kernel for each size; connections are opened last, since filling outlasts a kernel's patience."""
    postgres = stack.enter_context(running_postgres())
    filled = []
    for size in (EMPTY, BETWEEN, FULL):
        dsn = await new_database(postgres)
        server = stack.enter_context(running_kernel(dsn))
        await fill(dsn, size)
        filled.append((size, server, await server.admit("bench-growth")))
    return [await _site(stack, size, server, agent) for size, server, agent in filled]


async def _site(stack: AsyncExitStack, size: Size, server: Server, agent: Agent) -> Site:
    (caller,) = await stack.enter_async_context(callers(server, [agent]))
    reads = {what: partial(_timed_get, caller, path) for what, path in _reads(size).items()}
    return Site(size, {**reads, "claim with context": partial(_timed_claim, caller)})


async def _round(sites: list[Site], findings: Findings) -> None:
    for what in sites[0].requests:
        spent: dict[int, list[float]] = {site.size.turn_count: [] for site in sites}
        for _ in range(_TIMES):
            for site in sites:
                spent[site.size.turn_count].append(await site.requests[what]())
        for turn_count, seconds in spent.items():
            findings.add("cgworker", what, "ms", statistics.median(seconds) * 1000, at=turn_count)


def _check_goals(what: str, findings: Findings) -> None:
    full, empty = (findings.median("cgworker", what, at=size.turn_count) for size in (FULL, EMPTY))
    came_to = f"{full / empty:.2f} × ({empty:.2f} → {full:.2f} ms)"
    findings.judge(f"{what} ≤ {MOST_RATIO} ×", came_to, is_met=full <= MOST_RATIO * empty)


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


async def _timed_get(caller: Caller, path: str) -> float:
    begun = time.perf_counter()
    await caller.get(path)
    return time.perf_counter() - begun


async def _timed_claim(caller: Caller) -> float:
    """A claim that finds a turn; what comes before and after is not counted."""
    await caller.dispatch(caller.agent)
    begun = time.perf_counter()
    claim = await caller.claim(with_context=True)
    spent = time.perf_counter() - begun
    await caller.finish(claim)
    return spent


if __name__ == "__main__":
    main(ROW, measure)
