"""A model of an installation: kernels, databases and proxies as queues, played event by event.

What a request costs is measured. What the model adds is how requests wait for each other: for the one thread
of a kernel, for the cores and the disk of its database, for a connection, for a statement of their verb and
project that is under way (kernel/batching.py), and for the row of their project.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Literal

from attrs import define, field, frozen

Then = Callable[[], None]
Verb = Literal["dispatch", "claim", "finish"]
VERBS: tuple[Verb, ...] = ("dispatch", "claim", "finish")

_OVERLAPPING = 4  # requests in a kernel, up to which statements of one verb and project overlap
_MOST_ITEMS = 100
_CPU_SHAPE = 4.0  # of the gamma distribution of CPU times: half of the mean is their deviation
_SYNC_SHAPE = 2.0  # of syncs, which differ more


@frozen(kw_only=True)
class Costs:
    """What things cost, in seconds; the defaults are those that row 20 of docs/benchmarks.md has measured.

    Where each request has a statement of its own it costs more than where a dozen share one. The difference
    tells the cost of a statement from that of a request.

    Attributes:
        kernel_request: kernel CPU to read a request and to answer it.
        kernel_statement: kernel CPU to send a statement and to read its rows.
        database_item: PostgreSQL CPU for a request within a statement.
        database_statement: PostgreSQL CPU for a statement beside its items.
        sync: the time of a disk's sync, which all commits share that wait at its begin. That of row 20's disk
            is shorter.
        client: CPU of the load generator for a request.
        behind: the share of CPU time that is spent after the answer has gone.
        proxy: CPU of a proxy for a request.
        wake: from one process to the next, without CPU; four times a request.
        renewal_kernel: kernel CPU for a renewal among 50 in a request.
        renewal_database: PostgreSQL CPU for it.
        look_kernel: kernel CPU for a look of a waiting claim, every ten seconds.
        look_database: PostgreSQL CPU for it.
    """

    kernel_request: float = 0.21e-3
    kernel_statement: float = 0.33e-3
    database_item: float = 0.08e-3
    database_statement: float = 0.76e-3
    sync: float = 0.6e-3
    client: float = 0.064e-3
    behind: float = 0.0
    proxy: float = 0.05e-3
    wake: float = 0.04e-3
    renewal_kernel: float = 0.05e-3
    renewal_database: float = 0.04e-3
    look_kernel: float = 0.35e-3
    look_database: float = 0.25e-3


class Clock:
    """Plays what is due, in order."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self._due: list[tuple[float, int, Then]] = []
        self._count = 0

    def after(self, seconds: float, then: Then) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._due, (self.now + seconds, self._count, then))

    def run(self, until: float) -> None:
        """Play until this time."""
        while self._due and self._due[0][0] <= until:
            self.now, _, then = heapq.heappop(self._due)
            then()

    def about(self, seconds: float, shape: float) -> float:
        """Return a random time with this mean (gamma)."""
        return self.chance.gammavariate(shape, seconds / shape)

    def at_rate(self, rate: float, then: Then) -> None:
        """Do something at random times, so often a second (Poisson)."""

        def arrive() -> None:
            then()
            self.after(self.chance.expovariate(rate), arrive)

        if rate > 0:
            self.after(self.chance.expovariate(rate), arrive)


class Servers:
    """So many equal servers with one queue: the cores of a machine, or the thread of a process.

    Args:
        clock: the time.
        count: how many.
        on: the cores on which each job also has to find a place; None if there are enough.
        behind: the share of a job that is done after its answer has gone, from 0 to 1.
    """

    def __init__(self, clock: Clock, count: int, on: Servers | None = None, behind: float = 0.0) -> None:
        self._clock, self._free, self._on, self._behind = clock, count, on, behind
        self._waiting: deque[tuple[float, Then, Then]] = deque()
        self.busy_seconds = 0.0

    def do(self, seconds: float, then: Then) -> None:
        """Work about so long, as soon as a server is free."""
        self._do(self._clock.about(seconds, _CPU_SHAPE), then, _nothing)

    def _do(self, seconds: float, then: Then, freed: Then) -> None:
        if not self._free:
            self._waiting.append((seconds, then, freed))
            return
        self._free -= 1
        self._begin(seconds, then, freed)

    def _begin(self, seconds: float, then: Then, freed: Then) -> None:
        self.busy_seconds += seconds

        def done() -> None:
            if self._waiting:
                self._begin(*self._waiting.popleft())
            else:
                self._free += 1
            freed()

        if self._on is None:
            self._clock.after(seconds * (1 - self._behind), then)
            self._clock.after(seconds, done)
        else:
            self._on._do(seconds, then, done)  # noqa: SLF001  # the same work, at its other place


def _nothing() -> None:
    """Do nothing."""


class Slots:
    """So many places, such as connections or a lock; they are taken and given back."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Then] = deque()

    def take(self, then: Then) -> None:
        """Take a place, as soon as there is one."""
        if self._free:
            self._free -= 1
            then()
        else:
            self._waiting.append(then)

    def give_back(self) -> None:
        """Leave the place to who waits for it."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1


class Disk:
    """A disk that syncs one time after the other; all commits that wait at the begin share a sync."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._waiting: list[Then] = []
        self._is_busy = False

    def sync(self, then: Then) -> None:
        """Wait for a sync that begins from now on."""
        self._waiting.append(then)
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        self._is_busy, served = True, self._waiting
        self._waiting = []
        seconds = self._clock.about(self._seconds, _SYNC_SHAPE)

        def done() -> None:
            self._is_busy = False
            for then in served:
                then()
            if self._waiting and not self._is_busy:
                self._begin()

        self._clock.after(seconds, done)


class Database:
    """A PostgreSQL: its cores, its disk, and the row of each project that a dispatch locks."""

    def __init__(self, clock: Clock, costs: Costs, cores: Servers) -> None:
        self._clock, self._costs, self.cores = clock, costs, cores
        self.disk = Disk(clock, costs.sync)
        self._rows: dict[int, Slots] = defaultdict(lambda: Slots(1))

    def execute(self, verb: Verb, project: int, count: int, then: Then) -> None:
        """One statement for so many requests, with its commit."""
        seconds = self._costs.database_statement + count * self._costs.database_item

        def work() -> None:
            self.cores.do(seconds, lambda: self.disk.sync(done))

        def done() -> None:
            if verb == "dispatch":
                self._rows[project].give_back()
            then()

        if verb == "dispatch":
            self._rows[project].take(work)
        else:
            work()


@define
class _Group:
    """Requests of one verb and project in one kernel that wait, and the statements that are under way."""

    waiting: list[Then] = field(factory=list)
    under_way: int = 0


class Kernel:
    """A kernel process: one thread, ten connections, and requests that share statements."""

    def __init__(self, clock: Clock, costs: Costs, database: Database, cores: Servers | None = None) -> None:
        self._clock, self._costs, self._database = clock, costs, database
        self.thread = Servers(clock, 1, cores, behind=costs.behind)
        self._connections = Slots(10)
        self._groups: dict[tuple[Verb, int], _Group] = defaultdict(_Group)
        self._load = 0

    def request(self, verb: Verb, project: int, then: Then) -> None:
        """Serve a request."""
        self.thread.do(self._costs.kernel_request / 2, partial(self._join, verb, project, then))

    def _join(self, verb: Verb, project: int, then: Then) -> None:
        group = self._groups[verb, project]
        group.waiting.append(then)
        self._load += 1
        self._begin(group, verb, project)

    def _begin(self, group: _Group, verb: Verb, project: int) -> None:
        if group.waiting and (not group.under_way or self._load <= _OVERLAPPING):
            group.under_way += 1
            self._connections.take(partial(self._send, group, verb, project))

    def _send(self, group: _Group, verb: Verb, project: int) -> None:
        """Send a statement for those that wait when the thread comes to it."""
        items: list[Then] = []

        def sent() -> None:
            items[:], group.waiting = group.waiting[:_MOST_ITEMS], group.waiting[_MOST_ITEMS:]
            execute = partial(self._database.execute, verb, project, len(items), executed)
            self._clock.after(self._costs.wake, execute)

        def executed() -> None:
            self._connections.give_back()
            group.under_way -= 1
            self._load -= len(items)
            self._begin(group, verb, project)
            for then in items:
                answer = partial(self.thread.do, self._costs.kernel_request / 2, then)
                self._clock.after(self._costs.wake, answer)

        self.thread.do(self._costs.kernel_statement, sent)

    def burden(self, kernel_seconds: float, database_seconds: float) -> None:
        """Work that nobody waits for here, such as a look of a waiting claim."""
        database = self._database.cores
        self.thread.do(kernel_seconds, lambda: database.do(database_seconds, lambda: None))
