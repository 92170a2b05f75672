"""The scenarios. Each plays one disaster in a folder of its own, and returns the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from attrs import frozen

from tests.failover import disks, networks
from tests.failover.disks import a_disk
from tests.failover.drill import Drill, two_servers
from tests.failover.networks import Network, a_network
from tests.failover.patroni import a_cluster
from tests.failover.servers import Server, free_servers
from tests.failover.stage import Stage, dsn_of
from tests.soak.verdict import Verdict

LAG_SECONDS = 1.0
"""How far behind an asynchronous standby may be that is not cut off, on a machine as busy as it may be."""


@frozen
class Scenario:
    """A scenario, and what it needs besides PostgreSQL.

    Attributes:
        play: plays it.
        programs: the programs that it starts.
        why_not: why this machine cannot play it, given a folder; None if it can.
    """

    play: Callable[[Drill], Awaitable[Verdict]]
    programs: tuple[str, ...] = ()
    why_not: Callable[[Path], str | None] = lambda _: None


async def by_hand(drill: Drill) -> Verdict:
    """The primary is killed with all its processes, and an operator promotes the standby.

    With half of the seeds the old primary is started again, as by a supervisor that knows no better.
    """
    async with two_servers(*free_servers(drill.folder)) as (one, two):
        return await drill.play(dsn_of([one, two]), _killing(drill, one, two), lambda: two)


async def asynchronous(drill: Drill) -> Verdict:
    """No commit waits for the standby, which is cut off a while before the primary is killed.

    What the primary answered meanwhile is lost, and nothing else. With half of the seeds the old primary is
    started again.
    """
    cut_at = float("nan")
    with a_network() as network:
        one, two = _servers_of(network, drill.folder)
        async with two_servers(one, two, is_synchronous=False):
            kill = _killing(drill, one, two)

            async def cut_and_kill(stage: Stage) -> tuple[float, float]:
                nonlocal cut_at
                cut_at = time.monotonic()
                network.between.cut()
                await drill.wait_a_while(least=0.5, most=2.0)
                return await kill(stage)

            return await drill.play(
                dsn_of([one, two]), cut_and_kill, lambda: two, kept_before=lambda: cut_at - LAG_SECONDS
            )


async def split(drill: Drill) -> Verdict:
    """The primary is cut off from everybody, or cannot answer, or has lost its standby; later it is back."""
    with a_network() as network:
        one, two = _servers_of(network, drill.folder)
        async with two_servers(one, two):

            async def cut(_: Stage) -> tuple[float, float]:
                kind = drill.chance.choice(["from all", "deaf", "from its standby"])
                network.between.cut()
                if kind != "from its standby":
                    network.to_one.cut(both_ways=kind == "from all")
                cut_at = time.monotonic()
                await drill.wait_a_while()
                promoted_at = await two.promote()
                drill.do_later(mend)
                return cut_at, promoted_at

            async def mend() -> None:
                network.between.mend()
                network.to_one.mend()

            return await drill.play(dsn_of([one, two]), cut, lambda: two, old=one)


async def stall(drill: Drill) -> Verdict:
    """The disk of the primary takes no more writes; later it does."""
    with a_disk(drill.folder / "disk") as disk:
        one, two = free_servers(drill.folder)
        one.folder = disk.folder
        try:
            async with two_servers(one, two):

                async def stop(_: Stage) -> tuple[float, float]:
                    await asyncio.to_thread(disk.stall)
                    stalled_at = time.monotonic()
                    await drill.wait_a_while()
                    promoted_at = await two.promote()
                    drill.do_later(go_on)
                    return stalled_at, promoted_at

                async def go_on() -> None:
                    await asyncio.to_thread(disk.go_on)

                try:
                    return await drill.play(dsn_of([one, two]), stop, lambda: two, old=one)
                finally:
                    disk.go_on()  # who sleeps at the disk cannot be killed
        finally:
            one.kill()


async def by_patroni(drill: Drill) -> Verdict:
    """The primary is killed, with its machine or alone, and Patroni promotes the standby, or starts it again.

    Kernels reach it by HAProxy, or by the address of both servers.
    """
    async with a_cluster(drill.folder) as cluster:
        one, two = cluster.one, cluster.two
        has_proxy, dies_alone = drill.chance.random() < 0.5, drill.chance.random() < 0.5

        async def kill(_: Stage) -> tuple[float, float]:
            if dies_alone:
                one.kill_server()
            else:
                one.kill()
            killed_at = time.monotonic()
            promoted_at = await cluster.has_primary()
            if not dies_alone:
                drill.do_later(one.start)
            return killed_at, promoted_at

        dsn = cluster.proxied_dsn if has_proxy else dsn_of([one, two])
        verdict = await drill.play(dsn, kill, lambda: cluster.primary)
        verdict.figures["by HAProxy"] = str(has_proxy)
        verdict.figures["the server alone was killed"] = str(dies_alone)
        verdict.figures["the primary afterwards"] = cluster.primary.name
        return verdict


def _killing(drill: Drill, one: Server, two: Server) -> Callable[[Stage], Awaitable[tuple[float, float]]]:
    async def kill(_: Stage) -> tuple[float, float]:
        one.kill()
        killed_at = time.monotonic()
        await drill.wait_a_while()
        promoted_at = await two.promote()
        if drill.chance.random() < 0.5:
            drill.do_later(one.start)
        return killed_at, promoted_at

    return kill


def _servers_of(network: Network, folder: Path) -> tuple[Server, Server]:
    """The two servers, each in a namespace of its own."""
    at_one, at_two = network.to_one.ends[1], network.to_two.ends[1]
    one = Server(
        "one",
        folder / "one",
        5432,
        at_one.address,
        at_one.prefix,
        standby_host=network.between.ends[1].address,
    )
    return one, Server("two", folder / "two", 5432, at_two.address, at_two.prefix)


SCENARIOS: Mapping[str, Scenario] = {
    "hand": Scenario(by_hand),
    "patroni": Scenario(by_patroni, ("patroni", "etcd", "haproxy")),
    "split": Scenario(split, ("ip",), lambda _: networks.why_not()),
    "stall": Scenario(stall, ("fsfreeze", "mkfs.ext4"), disks.why_not),
    "asynchronous": Scenario(asynchronous, ("ip",), lambda _: networks.why_not()),
}
