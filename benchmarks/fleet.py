"""Row 20: the model of docs/explanation/capacity.md beside a real run, and what it says of a million agents.

The model takes its costs from three runs: 64 connections in one project, where requests share statements; 64
in projects of their own, where none does; and one connection. It foretells the others, and the times of all.
`python -m benchmarks.fleet --fleet` prints the table of capacity.md instead.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import asyncpg
from attrs import define, evolve, field, frozen

from benchmarks.fleet_model import VERBS, Clock, Costs, Database, Kernel, Servers, Verb
from benchmarks.load import Caller, callers
from benchmarks.measuring import Findings, Options, Row, cpu_seconds, main
from benchmarks.servers import Agent, Server, new_database, running_kernel, running_postgres
from cgworker import AgentRef
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.seed import admin_service_of, seed_project
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.turns import CONVERSATION_KIND

ROW = Row(
    20,
    "the model of capacity.md beside a real run: one kernel, by connections",
    "turns a second, p50 and p95 within 30 %",
)

CONNECTIONS = (1, 4, 16, 64)
MANY = 64  # connections, each in a project of its own
_SECONDS = 3.0
_WITHIN = 0.3
_FASTEST_SYNC = 0.1e-3


@define
class Timings:
    """How long turns and their requests took, in seconds."""

    turns: list[float] = field(factory=list)
    verbs: dict[Verb, list[float]] = field(factory=lambda: defaultdict(list))
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Turns a second."""
        return len(self.turns) / self.seconds

    def percentile(self, share: int, verb: Verb | None = None) -> float:
        """A percentile of a verb, or of the three requests of a turn together, in milliseconds."""
        values = self.turns if verb is None else self.verbs[verb]
        return statistics.quantiles(values, n=100)[share - 1] * 1000


# ---------------------------------------------------------------- this machine


@frozen
class Measured:
    """A real run: its timings, CPU seconds a request, and how many requests share a statement."""

    timings: Timings
    kernel: float
    database: float
    client: float
    batch: float


async def measure(options: Options) -> Findings:
    """Real runs and the model's, by connections."""
    findings = Findings()
    with running_postgres() as postgres, running_kernel(dsn := await new_database(postgres)) as server:
        one = [await server.admit(f"fleet-{number}") for number in range(max(CONNECTIONS))]
        runs = {("one project", count): one[:count] for count in CONNECTIONS}
        runs["projects of their own", MANY] = await _in_projects(dsn, MANY)
        machine = Machine(server, postgres.pid, dsn)
        await machine.run(one[:16], 1.0)
        for _ in range(options.rounds):
            real = {run: await machine.run(agents, _SECONDS) for run, agents in runs.items()}
            costs = calibrated(real)
            for (where, count), run in real.items():
                _add(findings, f"real, {where}", count, run.timings)
                _add(findings, f"model, {where}", count, played(costs, count, is_one=where == "one project"))
                batch = f"requests in a statement, {count} connections"
                findings.add(f"real, {where}", batch, "", run.batch)
                for name in ("kernel", "database"):
                    cpu = getattr(run, name) * 3000
                    findings.add(f"real, {where}", f"{name} CPU, {count} connections", "ms", cpu)
            for name in _COSTS:
                findings.add("costs", name.replace("_", " "), "ms", getattr(costs, name) * 1000)
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        findings.notes.append("other work on the machine had to wait: these programs had real-time priority")
    for where, count in runs:
        _check_goals(findings, where, count)
    return findings


_COSTS = ("kernel_request", "kernel_statement", "database_item", "database_statement", "sync")


async def _in_projects(dsn: str, count: int) -> list[Agent]:
    """An agent in each of so many new projects."""
    found = []
    async with open_database(KernelConfig(pg_dsn=dsn, pool_size=1)) as database:
        for number in range(count):
            ref = AgentRef(project_id=f"fleet-{number}", agent_id="agent")
            await seed_project(database, ref.project_id)
            spec = AgentSpec(agent_id="agent", role="bench", capabilities=(CONVERSATION_KIND,))
            operator, origin = (
                admin_service_of(ref.project_id),
                Provenance(kind="bench", external_ref="row"),
            )
            await register_agent(database, operator, spec, origin)
            issued = await issue_credential(database, ref, IssueCredential(), issued_by=None)
            found.append(Agent(ref, issued.token))
    return found


@frozen
class Machine:
    """A kernel and a PostgreSQL here."""

    server: Server
    postgres_pid: int
    dsn: str

    async def run(self, agents: Sequence[Agent], seconds: float) -> Measured:
        """A connection for each agent, which dispatches to itself and closes turn after turn."""
        timings = Timings()
        async with callers(self.server, agents) as opened:
            commits, before = await self._commits(), self._cpu()
            begun = time.perf_counter()
            await asyncio.gather(*(_close_turns(caller, timings, begun + seconds) for caller in opened))
            timings.seconds = time.perf_counter() - begun
            requests = 3 * len(timings.turns)
            spent = [(later - was) / requests for was, later in zip(before, self._cpu(), strict=True)]
        kernel, database, client = spent
        batch = max(1.0, requests / (await self._commits() - commits))
        return Measured(timings, kernel, database, client, batch)

    def _cpu(self) -> tuple[float, float, float]:
        return cpu_seconds(self.server.pid or 0), cpu_seconds(self.postgres_pid), time.process_time()

    async def _commits(self) -> int:
        """The transactions so far; PostgreSQL's processes tell of them with a delay of a second."""
        await asyncio.sleep(1.5)
        connection = await asyncpg.connect(self.dsn)
        count = await connection.fetchval(
            "select xact_commit from pg_stat_database where datname = current_database()"
        )
        await connection.close()
        return int(count)


async def _close_turns(caller: Caller, timings: Timings, until: float) -> None:
    while (began := time.perf_counter()) < until:
        await caller.dispatch(caller.agent)
        dispatched = time.perf_counter()
        claim = await caller.claim(with_context=True)
        claimed = time.perf_counter()
        await caller.finish(claim)
        finished = time.perf_counter()
        timings.turns.append(finished - began)
        spans = (dispatched - began, claimed - dispatched, finished - claimed)
        for verb, seconds in zip(VERBS, spans, strict=True):
            timings.verbs[verb].append(seconds)


def calibrated(real: Mapping[tuple[str, int], Measured]) -> Costs:
    """The costs of this machine at this moment: of a statement, and of each request in it."""
    alone, shared = real["one project", 1], real["one project", max(CONNECTIONS)]
    apart = real["projects of their own", MANY]
    batches = apart.batch, shared.batch
    kernel_request, kernel_statement = _split(apart.kernel, shared.kernel, *batches)
    database_item, database_statement = _split(apart.database, shared.database, *batches)
    cpu = kernel_request + kernel_statement + database_item + database_statement + shared.client
    # What is left of the time of a request that waits for no other: the disk, or else CPU after the answer.
    path = statistics.median(alone.timings.turns) / 3 - 4 * Costs().wake
    return evolve(
        Costs(),
        kernel_request=kernel_request,
        kernel_statement=kernel_statement,
        database_item=database_item,
        database_statement=database_statement,
        client=shared.client,
        sync=max(path - cpu, _FASTEST_SYNC),
        behind=min(max(1 - (path - _FASTEST_SYNC) / cpu, 0.0), 0.5),
    )


def _split(apart: float, shared: float, apart_batch: float, shared_batch: float) -> tuple[float, float]:
    """What a request costs, and what a statement does that they share."""
    statement = max(0.0, (apart - shared) / (1 / apart_batch - 1 / shared_batch))
    return apart - statement / apart_batch, statement


def played(
    costs: Costs, count: int, *, is_one: bool = True, seconds: float = 10.0, cores: int = 2
) -> Timings:
    """The model of the same: generator, kernel and PostgreSQL share the cores of one machine."""
    clock, timings = Clock(), Timings(seconds=seconds)
    machine = Servers(clock, cores, behind=costs.behind)
    kernel = Kernel(clock, costs, Database(clock, costs, machine), machine)
    generator = Servers(clock, 1, machine)

    def begin(project: int) -> None:
        began, at = clock.now, [clock.now]

        def next_verb(number: int) -> None:
            if number:
                timings.verbs[VERBS[number - 1]].append(clock.now - at[-1])
                at.append(clock.now)
            if number == len(VERBS):
                timings.turns.append(clock.now - began)
                begin(project)
                return
            answered = partial(clock.after, costs.wake, partial(next_verb, number + 1))
            asked = partial(kernel.request, VERBS[number], project, answered)
            generator.do(costs.client, partial(clock.after, costs.wake, asked))

        next_verb(0)

    for number in range(count):
        begin(0 if is_one else number)
    clock.run(seconds)
    return timings


def _add(findings: Findings, who: str, count: int, timings: Timings) -> None:
    findings.add(who, _RATE, "1/s", timings.rate, at=count)
    for share in (50, 95):
        findings.add(who, _time(share, count), "ms", timings.percentile(share))


_RATE = "turns closed by connections"


def _time(share: int, count: int) -> str:
    return f"the requests of a turn, {count} connections, p{share}"


def _check_goals(findings: Findings, where: str, count: int) -> None:
    model, real = f"model, {where}", f"real, {where}"
    ratios = {
        "turns closed": findings.median(model, _RATE, at=count) / findings.median(real, _RATE, at=count),
        **{
            f"p{share}": findings.median(model, _time(share, count))
            / findings.median(real, _time(share, count))
            for share in (50, 95)
        },
    }
    for what, ratio in ratios.items():
        is_met = 1 - _WITHIN <= ratio <= 1 + _WITHIN
        findings.judge(f"{count} in {where}, {what}: within 30 %", f"{ratio:.2f} ×", is_met=is_met)


# ---------------------------------------------------------------- a fleet


@frozen(kw_only=True)
class Fleet:
    """An installation and what it has to do.

    Attributes:
        turns_a_second: of all agents together, at random times.
        held: turns that are held at any time, renewed every ten seconds, 50 in a request.
        waiting: requests that wait for work: each looks every ten seconds, and is sent anew every minute.
        projects: into which the agents are divided evenly; each belongs to one database.
        databases: PostgreSQL servers, each with its share of projects and kernels.
        kernels: kernel processes, each with a core.
        cores: of each database.
        proxies: proxy processes, each with a core.
    """

    agents: int = 1_000_000
    turns_a_second: float = 10_000
    held: int = 300_000
    waiting: int = 10_000
    projects: int = 1_000
    databases: int
    kernels: int
    cores: int
    proxies: int


@frozen
class Outcome:
    """What a fleet came to: timings, and how busy its parts are, from 0 to 1."""

    timings: Timings
    kernels: float
    databases: float
    proxies: float


def simulate(fleet: Fleet, costs: Costs, seconds: float = 5.0) -> Outcome:
    """Play the fleet for so long, and count what begins after the first fifth."""
    clock, timings = Clock(), Timings(seconds=seconds * 0.8)
    databases = [Database(clock, costs, Servers(clock, fleet.cores)) for _ in range(fleet.databases)]
    kernels = [Kernel(clock, costs, databases[n % fleet.databases]) for n in range(fleet.kernels)]
    of_database = [kernels[n :: fleet.databases] for n in range(fleet.databases)]
    proxies = [Servers(clock, 1) for _ in range(fleet.proxies)]

    def turn() -> None:
        agent = clock.chance.randrange(fleet.agents)
        project = agent % fleet.projects
        began = clock.now

        def next_verb(number: int, asked_at: float) -> None:
            if number and began > seconds / 5:
                timings.verbs[VERBS[number - 1]].append(clock.now - asked_at)
            if number == len(VERBS):
                if began > seconds / 5:
                    timings.turns.append(clock.now - began)
                return
            proxy = clock.chance.choice(proxies)
            kernel = clock.chance.choice(of_database[project % fleet.databases])
            back = partial(proxy.do, costs.proxy / 2, partial(next_verb, number + 1, clock.now))
            answered = partial(clock.after, costs.wake, back)
            proxy.do(costs.proxy / 2, partial(kernel.request, VERBS[number], project, answered))

        next_verb(0, began)

    def renew() -> None:
        clock.chance.choice(kernels).burden(50 * costs.renewal_kernel, 50 * costs.renewal_database)

    def ask_anew() -> None:
        clock.chance.choice(proxies).do(costs.proxy, lambda: None)

    def look() -> None:
        clock.chance.choice(kernels).burden(costs.look_kernel, costs.look_database)

    clock.at_rate(fleet.turns_a_second, turn)
    clock.at_rate(fleet.held / 10 / 50, renew)
    clock.at_rate(fleet.waiting / 10, look)
    clock.at_rate(fleet.waiting / 60, ask_anew)
    clock.run(seconds)
    return Outcome(
        timings,
        sum(kernel.thread.busy_seconds for kernel in kernels) / seconds / fleet.kernels,
        sum(each.cores.busy_seconds for each in databases) / seconds / fleet.databases / fleet.cores,
        sum(proxy.busy_seconds for proxy in proxies) / seconds / fleet.proxies,
    )


def _told(name: str, fleet: Fleet, outcome: Outcome) -> str:
    timings = outcome.timings
    parts = f"{fleet.kernels} | {fleet.databases} × {fleet.cores} | {fleet.proxies}"
    shares = (outcome.kernels, outcome.databases, outcome.proxies)
    busy = " / ".join(f"{min(share, 1):.0%}" for share in shares)
    if timings.rate < 0.97 * fleet.turns_a_second:
        return f"| {name} | {parts} | {busy} | too few: the queues grow | | |"
    times = (f"{timings.percentile(50, verb):.1f} / {timings.percentile(95, verb):.1f}" for verb in VERBS)
    return f"| {name} | {parts} | {busy} | {' | '.join(times)} |"


def fleets() -> dict[str, Fleet]:
    """The installations of capacity.md."""
    # A look for a hundred agents costs as much as four for one.
    together = Fleet(waiting=4 * 7_000, databases=4, kernels=28, cores=10, proxies=4)
    apart = evolve(together, waiting=700_000, databases=8, kernels=64, cores=8)
    project = Fleet(agents=10_000, projects=1, held=0, waiting=0, databases=1, kernels=1, cores=16, proxies=2)
    found = {
        "each agent waits by itself": apart,
        "a hundred agents wait in a request": together,
        "the same, 20 kernels": evolve(together, kernels=20),
        "the same, 24 PostgreSQL cores": evolve(together, cores=6),
        "the same, 20 projects": evolve(together, projects=20),
        "the same, 20,000 turns a second": evolve(together, turns_a_second=20_000),
        "the same, twice of everything": evolve(
            together, turns_a_second=20_000, databases=8, kernels=56, proxies=8
        ),
    }
    for kernels, rate in ((1, 1_000), (2, 2_000), (4, 4_000), (8, 6_000), (16, 10_000)):
        found[f"one project, {rate:,} a second"] = evolve(project, kernels=kernels, turns_a_second=rate)
    return found


def print_fleets() -> None:
    """Print the table of capacity.md."""
    sys.stdout.write(
        "| | Kernels | PostgreSQL: servers × cores | Proxies | Busy: kernels / PostgreSQL / proxies"
        f" | {' | '.join(f'{verb}, p50 / p95' for verb in VERBS)} |\n|{' --- |' * 8}\n"
    )
    for name, fleet in fleets().items():
        sys.stdout.write(_told(name, fleet, simulate(fleet, Costs())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if "--fleet" in sys.argv:
        print_fleets()
    else:
        main(ROW, measure, rounds=3)
