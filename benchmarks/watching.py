"""Row 17: what open tabs of the console cost the turns of row 1, and what one of them asks for.

A tab does what a browser does: it listens to the page's events, and loads the part that moves when one
comes. Beside it pgqueuer's own page, which shows the same of its queue, at as many changes a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
from attrs import define

from benchmarks.closed_turns import CONNECTIONS, closed_a_second
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.servers import (
    Agent,
    Server,
    absent,
    end,
    free_port,
    new_database,
    own_environment,
    peer_python,
    running_kernel,
    running_postgres,
)

ROW = Row(
    17,
    "open tabs of the console, beside the load of row 1; and one tab beside pgqueuer's page",
    "20 tabs cost ≤ 5 % of the turns; a tab's requests and bytes ≤ half of those of pgqueuer's",
)

_TABS = 20
_WARM_SECONDS = 2.0
_SECONDS = 6.0
_WATCHED_SECONDS = 60.0
_TURNS_A_SECOND = 20.0
_THROTTLE_SECONDS = 2.0  # of pgqueuer's page between two loads
_REST_SECONDS = {"cgworker": 15.0, "pgqueuer": 30.0}  # after which a page loads without news
_START_SECONDS = 30.0
_JOBS = Path(__file__).with_name("queues") / "pgqueuer_watched.py"


@define
class Traffic:
    """What a tab asked for and got since its page was open."""

    requests: int = 0
    bytes: int = 0


async def measure(options: Options) -> Findings:
    """Turns closed beside no tabs and beside twenty, then the traffic of one."""
    findings = Findings()
    with running_postgres() as postgres, running_kernel(await new_database(postgres)) as kernel:
        agents = [await kernel.admit(f"bench-{number}") for number in range(CONNECTIONS)]
        with _a_console(kernel, await kernel.admit("viewer")) as (link, pid):
            async with _a_browser(link) as browser:
                for _ in range(options.rounds):
                    for count in (0, _TABS):
                        await _round(kernel, agents, browser, pid, count, findings)
                async with callers(kernel, agents[:1]) as (caller,), _working(caller):
                    await _watched("cgworker", browser, findings)
        if python := peer_python("queues"):
            with _a_pgqueuer(python, await new_database(postgres)) as url:
                async with _a_browser(url) as browser:
                    await _watched("pgqueuer", browser, findings)
        else:
            findings.absent.append(absent("queues"))
    _check_goals(findings, is_beside_peer=python is not None)
    return findings


async def _round(
    kernel: Server,
    agents: Sequence[Agent],
    browser: httpx.AsyncClient,
    pid: int,
    count: int,
    findings: Findings,
) -> None:
    traffic = Traffic()
    async with callers(kernel, agents) as found, _tabs("cgworker", browser, count, traffic):
        await closed_a_second(found, _WARM_SECONDS)
        before = cpu_seconds(pid)
        closed = await closed_a_second(found, _SECONDS)
        findings.add(
            "cgworker", _beside("console CPU", count), "%", (cpu_seconds(pid) - before) / _SECONDS * 100
        )
    findings.add("cgworker", _beside("closed turns", count), "1/s", closed)


def _beside(what: str, count: int) -> str:
    return f"{what}, {count} tabs"


async def _watched(name: str, browser: httpx.AsyncClient, findings: Findings) -> None:
    traffic = Traffic()
    async with _tabs(name, browser, 1, traffic):
        await asyncio.sleep(_WATCHED_SECONDS)
    minutes = _WATCHED_SECONDS / 60
    findings.add(name, "requests of a tab", "1/min", traffic.requests / minutes)
    findings.add(name, "bytes of a tab", "KiB/min", traffic.bytes / 1024 / minutes)


# ---------------------------------------------------------------- tabs


@asynccontextmanager
async def _a_browser(link: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has opened the link, which may work only once."""
    url = httpx.URL(link)
    limits = httpx.Limits(max_connections=None)
    base = url.copy_with(raw_path=b"/")
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=60, trust_env=False) as browser:
        (await browser.get(url, follow_redirects=True)).raise_for_status()
        yield browser


@asynccontextmanager
async def _tabs(name: str, browser: httpx.AsyncClient, count: int, traffic: Traffic) -> AsyncIterator[None]:
    """So many open tabs that show the overview, until the block ends."""
    tabs = [asyncio.create_task(_tab(browser, name, traffic)) for _ in range(count)]
    try:
        yield
    finally:
        for tab in tabs:
            tab.cancel()
        ended = await asyncio.gather(*tabs, return_exceptions=True)
    if failed := [each for each in ended if not isinstance(each, asyncio.CancelledError)]:
        raise RuntimeError(f"a tab of {name} ended: {failed[0]!r}")


async def _tab(browser: httpx.AsyncClient, name: str, traffic: Traffic) -> None:
    news = asyncio.Event()
    listening = asyncio.create_task(_listen(browser, name, news, traffic))
    part = "/" if name == "cgworker" else "/partials/overview"
    try:
        while True:
            loaded_at = time.monotonic()
            answer = await browser.get(part, headers={"HX-Request": "true"})
            answer.raise_for_status()
            traffic.requests += 1
            traffic.bytes += len(answer.content)
            waiting = asyncio.create_task(news.wait())
            await asyncio.wait(
                {waiting, listening}, timeout=_REST_SECONDS[name], return_when="FIRST_COMPLETED"
            )
            waiting.cancel()
            if listening.done():
                listening.result()
            if name == "pgqueuer":
                await asyncio.sleep(_THROTTLE_SECONDS - (time.monotonic() - loaded_at))
            news.clear()
    finally:
        listening.cancel()


async def _listen(browser: httpx.AsyncClient, name: str, news: asyncio.Event, traffic: Traffic) -> None:
    """Note each event of the page's stream."""
    traffic.requests += 1
    path, event = ("/live", "event: changed") if name == "cgworker" else ("/events", "event: queue-change")
    async with browser.stream("GET", path) as stream:
        stream.raise_for_status()
        async for line in stream.aiter_lines():
            traffic.bytes += len(line) + 1
            if line == event:
                news.set()
    raise RuntimeError(f"{path} ended")


# ---------------------------------------------------------------- what they show


@asynccontextmanager
async def _working(caller: Caller) -> AsyncIterator[None]:
    """Close turns at an even rate until the block ends."""

    async def work() -> None:
        while True:
            await caller.dispatch(caller.agent)
            await caller.finish(await caller.claim(with_context=True))
            await asyncio.sleep(1 / _TURNS_A_SECOND)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _a_console(kernel: Server, viewer: Agent) -> Iterator[tuple[str, int]]:
    """The console as `cg console` starts it: its link, which opens once, and its process."""
    with tempfile.TemporaryDirectory(prefix="cg-") as home:
        token = Path(home) / "token"
        token.touch(0o600)
        token.write_text(viewer.token)
        command = [sys.executable, "-m", "cgworker", "console", "--port", "0", "--base-url", kernel.url]
        command += ["--project-id", viewer.ref.project_id, "--agent-id", viewer.ref.agent_id]
        process = subprocess.Popen(
            [*command, "--auth-token-file", str(token)],
            env=own_environment(home),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            yield (
                next(word for line in process.stderr for word in line.split() if "/login" in word),
                process.pid,
            )
        finally:
            end(process)


@contextmanager
def _a_pgqueuer(python: str, dsn: str) -> Iterator[str]:
    """pgqueuer's page, whose queue has jobs that come and are done."""
    port = free_port()
    jobs = subprocess.Popen([python, str(_JOBS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert jobs.stdin is not None
    assert jobs.stdout is not None
    jobs.stdin.write(json.dumps({"dsn": dsn, "jobs_a_second": _TURNS_A_SECOND}) + "\n")
    jobs.stdin.flush()
    jobs.stdout.readline()
    web = subprocess.Popen(
        [python, "-m", "pgqueuer", "web", "--port", str(port)],
        env={**os.environ, "PGDSN": dsn, "PGQUEUER_DSN": dsn},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_until_served(url)
        yield url
    finally:
        end(web)
        jobs.stdin.close()
        jobs.wait(_START_SECONDS)


def _wait_until_served(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx.get(url, timeout=5, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError as trouble:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no page at {url}: {trouble!r}") from trouble
            time.sleep(0.1)


def _check_goals(findings: Findings, *, is_beside_peer: bool) -> None:
    alone, watched = (findings.median("cgworker", _beside("closed turns", count)) for count in (0, _TABS))
    findings.judge_most(f"{_TABS} tabs cost ≤ 5 %", (1 - watched / alone) * 100, "%", most=5)
    for what in ("requests", "bytes") if is_beside_peer else ():
        ours, theirs = (findings.median(name, f"{what} of a tab") for name in ("cgworker", "pgqueuer"))
        findings.judge_most(f"{what} of a tab ≤ half of those of pgqueuer's", ours / theirs, "×", most=0.5)


if __name__ == "__main__":
    main(ROW, measure, rounds=3)
