"""Row 11: what hostile bodies do to a kernel: to who asks beside them, to its memory, and in its answers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import orjson
from attrs import frozen

from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, main, memory_mib
from benchmarks.servers import (
    PROJECT,
    Agent,
    Server,
    absent,
    new_database,
    peer_python,
    running_kernel,
    running_postgres,
)
from cgworker.kernel.app import ROUTES
from cgworker.kernel.openapi.operation import Operation

ROW = Row(
    11,
    "front door: hostile bodies of 64 KiB, 1 MiB and 16 MiB at every route, one and forty at once",
    "slowest `/healthz` beside them ≤ 50 ms and ≤ 64 MiB without a credential, ≤ 250 ms with one;"
    " 500 × better than the build before at 1 MiB",
)

SIZES = {"64 KiB": 64 * 2**10, "1 MiB": 2**20, "16 MiB": 16 * 2**20}
COUNTS = (1, 40)

_CASE_SECONDS = float(os.environ.get("CG_FRONT_DOOR_SECONDS", "4"))
_BASELINE_SECONDS = 60.0  # a case that is not over by then counts as at least so long
_WORST = "turns:settle-many"


@frozen
class Case:
    """A route, and what is sent to it."""

    operation: Operation
    size: str
    count: int
    agent: Agent | None

    @property
    def who(self) -> str:
        return "with a credential" if self.agent else "without a credential"

    @property
    def name(self) -> str:
        return f"{self.who}, {self.count} of {self.size}"

    def request(self, host: str) -> bytes:
        """All of it, ready to be sent."""
        path = self.operation.path
        for name in ("turn_id", "agent_id", "credential_id"):
            path = path.replace(f"{{{name}}}", "T-1" if name == "turn_id" else "bench-door")
        body = _hostile(self.operation, SIZES[self.size])
        head = (
            f"{self.operation.method} {path.replace('{project_id}', PROJECT)} HTTP/1.1\r\nhost: {host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        )
        if self.agent is not None:
            head += (
                f"x-cg-project-id: {self.agent.ref.project_id}\r\n"
                f"x-cg-agent-id: {self.agent.ref.agent_id}\r\n"
                f"authorization: Bearer {self.agent.token}\r\n"
            )
        return head.encode() + b"\r\n" + body


@frozen
class Harm:
    """What a case did."""

    slowest_ms: float
    growth_mib: float
    answer_bytes: int
    failed_renewals: int


def _hostile(operation: Operation, size: int) -> bytes:
    """As many faults as so many bytes can have: empty items, or keys that nobody knows."""
    if hasattr(operation.takes, "max_items"):
        return b'{"items":[' + b"{}," * ((size - 16) // 3) + b"{}]}"
    return b"{" + b",".join(b'"%06x":0' % number for number in range((size - 2) // 11)) + b"}"


async def measure(options: Options) -> Findings:
    """Every case at our kernel; the one that hurt most, in alternation with the build before."""
    findings = Findings()
    if options.url:
        findings.notes.append("this row starts its own kernels and leaves --url alone")
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        dsn = await new_database(postgres)
        with running_kernel(dsn, CG_CLAIM_TIMEOUT_SECONDS="10") as server:
            agent = await server.admit("bench-door", capacity=3)
            for case in _cases(agent):
                _note(findings, "cgworker", case, await _hurt(server, agent, case, _CASE_SECONDS))
        await _compare(findings, await new_database(postgres), await new_database(postgres), options.rounds)
    findings.notes.append("the process that parses large bodies beside the kernel's is not in its memory")
    _check_goals(findings)
    return findings


def _cases(agent: Agent) -> Iterator[Case]:
    taking = [route for route in ROUTES if isinstance(route, Operation) and route.takes is not None]
    for caller, size, count, route in product((None, agent), SIZES, COUNTS, taking):
        yield Case(route, size, count, caller)


def _note(findings: Findings, who: str, case: Case, harm: Harm) -> None:
    findings.add(who, f"slowest `/healthz`, {case.name}", "ms", harm.slowest_ms)
    findings.add(who, f"growth of memory, {case.name}", "MiB", harm.growth_mib)
    findings.add(who, f"answer, {case.name}", "KiB", harm.answer_bytes / 1024)
    findings.add(who, f"failed renewals, {case.name}", "renewals", harm.failed_renewals)


async def _compare(findings: Findings, dsn: str, baseline_dsn: str, rounds: int) -> None:
    python = peer_python("baseline")
    if python is None:
        findings.absent.append(absent("baseline"))
        return
    worst = next(route for route in ROUTES if isinstance(route, Operation) and route.path.endswith(_WORST))
    for _ in range(rounds):
        for who, program, database in (("cgworker", None, dsn), ("f7e32f1", python, baseline_dsn)):
            with running_kernel(database, python=program) as server:
                agent = await server.admit("bench-door", capacity=3)
                case = Case(worst, "1 MiB", 1, None)
                harm = await _hurt(server, agent, case, _BASELINE_SECONDS)
                findings.add(who, f"slowest `/healthz`, {_WORST}, {case.name}", "ms", harm.slowest_ms)
                findings.add(who, f"answer, {_WORST}, {case.name}", "KiB", harm.answer_bytes / 1024)
                findings.add(who, f"growth of memory, {_WORST}, {case.name}", "MiB", harm.growth_mib)


# ---------------------------------------------------------------- one case


async def _hurt(server: Server, agent: Agent, case: Case, most_seconds: float) -> Harm:
    """Send it, and watch who asks for something small meanwhile."""
    request = case.request(urlsplit(server.url).netloc)
    async with _watched(server, agent) as seen:
        threads, loop = ThreadPoolExecutor(case.count), asyncio.get_running_loop()
        deadline = time.monotonic() + most_seconds
        sending = [
            loop.run_in_executor(threads, _answer_to, server.url, request, deadline)
            for _ in range(case.count)
        ]
        answers = await asyncio.gather(*sending)
        threads.shutdown(wait=False)
        await asyncio.sleep(0.05)
    return Harm(
        slowest_ms=seen.slowest * 1000,
        growth_mib=max(0, seen.most_mib - seen.first_mib),
        answer_bytes=max(answers),
        failed_renewals=seen.failed,
    )


def _answer_to(url: str, request: bytes, deadline: float) -> int:
    """How long the answer to a request is; as far as it comes in time."""
    at, size = urlsplit(url), 0
    with (
        suppress(OSError),
        socket.create_connection((at.hostname, at.port), max(0.1, deadline - time.monotonic())) as connection,
    ):
        with suppress(ConnectionError):
            connection.sendall(request)
        while more := connection.recv(2**20):
            size += len(more)
            connection.settimeout(max(0.1, deadline - time.monotonic()))
    return size


class _Seen:
    """What was seen beside a case."""

    slowest = 0.0
    first_mib = 0.0
    most_mib = 0.0
    failed = 0


@asynccontextmanager
async def _watched(server: Server, agent: Agent) -> AsyncIterator[_Seen]:
    """Ask for health, renew a claim and look at the memory, until the block ends."""
    seen = _Seen()
    async with callers(server, [agent, agent]) as [health, holder]:
        await holder.dispatch(agent)
        claim = await holder.claim()
        seen.first_mib = seen.most_mib = _memory_of(server)
        tasks = [
            asyncio.create_task(_ask_for_health(health, seen)),
            asyncio.create_task(_renew(holder, claim, seen)),
            asyncio.create_task(_look_at_memory(server, seen)),
        ]
        yield seen
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        seen.failed += sum(isinstance(how, Exception) for how in done)
    async with callers(server, [agent]) as [last]:
        with suppress(RuntimeError):  # it is not ours any more where its renewals failed
            await last.finish(claim)


async def _ask_for_health(caller: Caller, seen: _Seen) -> None:
    request = f"GET /healthz HTTP/1.1\r\nhost: {caller.host}\r\n\r\n".encode()
    while True:
        begun = time.perf_counter()
        try:
            await caller.connection.ask(request)
        finally:  # one that is still waited for has taken at least so long
            seen.slowest = max(seen.slowest, time.perf_counter() - begun)
        await asyncio.sleep(0.005)


async def _renew(caller: Caller, claim: Any, seen: _Seen) -> None:
    while True:
        try:
            await caller.renew(claim)
        except RuntimeError:
            seen.failed += 1
        await asyncio.sleep(0.1)


async def _look_at_memory(server: Server, seen: _Seen) -> None:
    while True:
        seen.most_mib = max(seen.most_mib, _memory_of(server))
        await asyncio.sleep(0.02)


def _memory_of(server: Server) -> float:
    """Of the kernel's process; not of the one beside it, which parses what is large and comes and goes."""
    return memory_mib(server.pid or 0)


def _check_goals(findings: Findings) -> None:
    for who, most in (("without a credential", 50), ("with a credential", 250)):
        slowest = max(_all(findings, f"slowest `/healthz`, {who}"))
        findings.judge_most(f"`/healthz` {who} ≤ {most} ms", slowest, "ms", most=most)
    growth = max(_all(findings, "growth of memory, without a credential"))
    findings.judge_most("memory without a credential ≤ 64 MiB", growth, "MiB", most=64)
    failed = sum(_all(findings, "failed renewals"))
    findings.judge_most("no renewal fails meanwhile", failed, "failed", most=0)
    what = f"slowest `/healthz`, {_WORST}, without a credential, 1 of 1 MiB"
    ratio = findings.median("f7e32f1", what) / findings.median("cgworker", what)
    findings.judge_ratio("500 × better at 1 MiB", ratio, least=500)


def _all(findings: Findings, what: str) -> list[float]:
    """Every value of our series whose name begins so."""
    series = orjson.loads(orjson.dumps(findings.as_json()))["series"]
    return [
        value
        for one in series
        if one["who"] == "cgworker" and one["what"].startswith(what)
        for value in one["values"]
    ]


if __name__ == "__main__":
    main(ROW, measure, rounds=1)
