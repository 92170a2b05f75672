"""Row 15: what readers that wait at a project's feed cost the turns of row 1, and the verbs beside them.

Each reader has a connection of its own, and asks for the next page as soon as it has one.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from attrs import define, frozen

from benchmarks.closed_turns import CONNECTIONS, closed_a_second
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.servers import (
    Agent,
    Postgres,
    Server,
    absent,
    new_database,
    peer_python,
    running_kernel,
    running_postgres,
)

ROW = Row(
    15,
    "readers that wait at a project's feed, beside the load of row 1",
    "8 readers cost ≤ 15 % of the turns, 1,000 readers ≤ 50 %; p99 of each verb at half load ≤ 20 ms",
)

_COUNTS = (0, 8, 1000)
_WARM_SECONDS = 2.0
_SECONDS = 4.0
_PROBED_READERS = 4
_PROBE_SECONDS = 8.0


@frozen
class Contestant:
    """A build of ours: its kernel, and the agents that close turns and that read."""

    name: str
    server: Server
    agents: list[Agent]
    reader: Agent


async def measure(options: Options) -> Findings:
    """Turns closed beside so many readers, what those got, and each verb's time at half load."""
    findings = Findings()
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        builds = {"cgworker": await _contestant(stack, postgres, "cgworker", None)}
        if python := peer_python("baseline"):
            builds["baseline"] = await _contestant(stack, postgres, "baseline", python)
        else:
            findings.absent.append(absent("baseline"))
        for _ in range(options.rounds):
            for count in _COUNTS:
                for build in builds.values():
                    await _round(build, count, postgres, findings)
        for _ in range(options.rounds):
            for build in builds.values():
                half = findings.median(build.name, _beside("closed turns", 0)) / 2
                for count in (0, _PROBED_READERS):
                    await _probe(build, count, half, findings)
        for name in builds:
            _check_goals(findings, name)
    return findings


async def _contestant(stack: AsyncExitStack, postgres: Postgres, name: str, python: str | None) -> Contestant:
    server = stack.enter_context(running_kernel(await new_database(postgres), python=python))
    agents = [await server.admit(f"bench-{number}") for number in range(CONNECTIONS + 1)]
    return Contestant(name, server, agents, await server.admit("reader"))


async def _round(build: Contestant, count: int, postgres: Postgres, findings: Findings) -> None:
    assert build.server.pid is not None
    async with (
        _readers(build, count) as read,
        callers(build.server, build.agents[:CONNECTIONS]) as found,
    ):
        await closed_a_second(found, _WARM_SECONDS)
        read.pages = read.events = 0
        before = cpu_seconds(build.server.pid), cpu_seconds(postgres.pid)
        closed = await closed_a_second(found, _SECONDS)
        after = cpu_seconds(build.server.pid), cpu_seconds(postgres.pid)
    findings.add(build.name, _beside("closed turns", count), "1/s", closed)
    for part, spent, had in zip(("kernel", "PostgreSQL"), after, before, strict=True):
        share = (spent - had) / (closed * _SECONDS) * 1000
        findings.add(build.name, _beside(f"{part} CPU for a turn", count), "ms", share)
    if count:
        findings.add(build.name, _beside("pages a reader", count), "1/s", read.pages / count / _SECONDS)
        findings.add(build.name, _beside("events a reader", count), "1/s", read.events / count / _SECONDS)


def _beside(what: str, count: int) -> str:
    return f"{what}, {count:,} readers"


@define
class Read:
    """What the readers got."""

    pages: int = 0
    events: int = 0


@asynccontextmanager
async def _readers(build: Contestant, count: int) -> AsyncIterator[Read]:
    """So many readers, until the block ends. They begin at the feed's end."""
    read = Read()
    async with callers(build.server, [build.reader] * count) as found:
        after = await _end_of_feed(found[0]) if found else 0
        tasks = [asyncio.create_task(_follow(reader, after, read)) for reader in found]
        try:
            yield read
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _end_of_feed(reader: Caller) -> int:
    after = 0
    while True:
        page = await reader.get(f"/projection/feed?limit=500&after_ledger_seq={after}")
        if not page["items"]:
            return after
        after = page["next_after_ledger_seq"]


async def _follow(reader: Caller, after: int, read: Read) -> None:
    while True:
        page = await reader.get_bytes(
            f"/projection/feed?limit=500&after_ledger_seq={after}", prefer="wait=30"
        )
        next_after = int(page[page.rindex(b":") + 1 : -1])  # the last field
        read.pages += 1
        read.events += next_after - after
        after = next_after


# ---------------------------------------------------------------- the verbs beside them


async def _probe(build: Contestant, count: int, turns_a_second: float, findings: Findings) -> None:
    """Times each verb of one more agent, one after the other, at so much load and with so many readers."""
    until = time.perf_counter() + _PROBE_SECONDS
    async with (
        _readers(build, count),
        callers(build.server, build.agents) as found,
    ):
        *busy, probe = found
        seconds, _ = await asyncio.gather(_timed(probe, until), _load(busy, turns_a_second, until))
    at = statistics.quantiles(seconds, n=100)
    findings.add(build.name, f"a verb at half load, {count} readers, p50", "ms", at[49] * 1000)
    findings.add(build.name, f"a verb at half load, {count} readers, p99", "ms", at[98] * 1000)


async def _timed(probe: Caller, until: float) -> list[float]:
    seconds: list[float] = []
    while time.perf_counter() < until:
        seconds += [spent async for spent in _verbs_of(probe)]
        await asyncio.sleep(0.002)
    return seconds


async def _load(busy: list[Caller], turns_a_second: float, until: float) -> None:
    """Close turns at an even rate."""
    pause = len(busy) / turns_a_second

    async def close(caller: Caller, due: float) -> None:
        while due < until:
            await asyncio.sleep(due - time.perf_counter())
            await caller.dispatch(caller.agent)
            await caller.finish(await caller.claim(with_context=True))
            due = max(due + pause, time.perf_counter() - pause)

    begun = time.perf_counter()
    await asyncio.gather(
        *(close(caller, begun + pause * place / len(busy)) for place, caller in enumerate(busy))
    )


async def _verbs_of(probe: Caller) -> AsyncIterator[float]:
    """The seconds of each verb of a turn."""
    claim: Any = None
    steps: list[Callable[[], Any]] = [
        lambda: probe.dispatch(probe.agent),
        lambda: probe.claim(with_context=True),
        lambda: probe.append(claim),
        lambda: probe.renew(claim),
        lambda: probe.finish(claim),
    ]
    for step in steps:
        begun = time.perf_counter()
        answer = await step()
        yield time.perf_counter() - begun
        claim = claim or (answer if isinstance(answer, dict) and "token" in answer else None)


def _check_goals(findings: Findings, name: str) -> None:
    alone = findings.median(name, _beside("closed turns", 0))
    for count, most in ((8, 15), (1000, 50)):
        cost = (1 - findings.median(name, _beside("closed turns", count)) / alone) * 100
        whose = "" if name == "cgworker" else f" ({name})"
        findings.judge_most(f"{count:,} readers cost ≤ {most} %{whose}", cost, "%", most=most)
    p99 = findings.median(name, f"a verb at half load, {_PROBED_READERS} readers, p99")
    findings.judge_most(f"p99 of a verb ≤ 20 ms{whose}", p99, "ms", most=20)


if __name__ == "__main__":
    main(ROW, measure, rounds=3)
