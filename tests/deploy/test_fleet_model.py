"""The model behind capacity.md does what queues do."""

from __future__ import annotations

import pytest
from benchmarks.fleet import Fleet, played, simulate
from benchmarks.fleet_model import Clock, Costs, Disk, Servers, Slots

SMALL = Fleet(
    agents=1_000,
    turns_a_second=400,
    held=0,
    waiting=0,
    projects=50,
    databases=1,
    kernels=1,
    cores=4,
    proxies=1,
)


def test_one_connection_waits_for_nothing_but_its_own_work() -> None:
    """A turn is three requests, and a request the sum of its costs."""
    costs = Costs()
    cpu = costs.kernel_request + costs.kernel_statement + costs.database_item + costs.database_statement
    alone = cpu + costs.client + costs.sync + 4 * costs.wake
    assert played(costs, 1, is_one=True).rate == pytest.approx(1 / (3 * alone), rel=0.05)


def test_requests_of_one_project_share_statements_and_those_of_many_do_not() -> None:
    """So one project closes more turns than many, on the same machine."""
    together, apart = (played(Costs(), 64, is_one=is_one, seconds=2.0).rate for is_one in (True, False))
    assert together > 2 * apart


def test_a_fleet_is_as_busy_as_its_load_says() -> None:
    """The rate times the cost, over the servers: queueing changes times, not work."""
    costs = Costs()
    found = simulate(SMALL, costs, 4.0)
    assert found.timings.rate == pytest.approx(400, rel=0.15)
    work = 3 * 400 * (costs.kernel_request + costs.kernel_statement)
    assert found.kernels == pytest.approx(work, rel=0.15)


def test_a_server_does_one_thing_at_a_time_and_a_lock_is_had_by_one() -> None:
    """In the order in which they came."""
    clock, done = Clock(), []
    server, lock = Servers(clock, 1), Slots(1)
    for name in "abc":
        server.do(1.0, lambda name=name: done.append(name))  # type: ignore[misc]
    clock.run(100)
    assert (done, server.busy_seconds) == (["a", "b", "c"], clock.now)
    lock.take(lambda: done.append("first"))
    lock.take(lambda: done.append("second"))
    assert done[3:] == ["first"]
    lock.give_back()
    assert done[3:] == ["first", "second"]


def test_commits_that_wait_share_a_sync() -> None:
    """One that comes during a sync waits for the next."""
    clock, ends = Clock(), []
    disk = Disk(clock, 1.0)
    for _ in range(4):
        disk.sync(lambda: ends.append(clock.now))
    clock.run(100)
    assert len(set(ends[1:])) == 1
    assert ends[0] < ends[1]
