"""The scenarios. Each plays one disaster in a folder of its own, and returns the verdict."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from attrs import frozen

from tests.failover.drill import Drill, two_servers
from tests.failover.stage import Stage, dsn_of
from tests.soak.verdict import Verdict


@frozen
class Scenario:
    """A scenario, and the programs that it needs besides PostgreSQL's."""

    play: Callable[[Drill], Awaitable[Verdict]]
    programs: tuple[str, ...] = ()


async def by_hand(drill: Drill) -> Verdict:
    """The primary is killed with all its processes, and an operator promotes the standby."""
    async with two_servers(drill.folder) as (one, two):

        async def kill(_: Stage) -> tuple[float, float]:
            one.kill()
            killed_at = time.monotonic()
            await drill.wait_a_while()
            return killed_at, await two.promote()

        return await drill.play(dsn_of([one, two]), kill, lambda: two)


async def asynchronous(drill: Drill) -> Verdict:
    """The same with a standby that no commit waits for: what is lost is counted."""
    async with two_servers(drill.folder, is_synchronous=False) as (one, two):

        async def kill(_: Stage) -> tuple[float, float]:
            one.kill()
            killed_at = time.monotonic()
            await drill.wait_a_while()
            return killed_at, await two.promote()

        return await drill.play(dsn_of([one, two]), kill, lambda: two, is_synchronous=False)


SCENARIOS: Mapping[str, Scenario] = {
    "hand": Scenario(by_hand),
    "asynchronous": Scenario(asynchronous),
}
