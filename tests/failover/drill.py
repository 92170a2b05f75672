"""A drill: a primary and its standby, two kernels and their clients, and a disaster under load."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from attrs import define, field

from tests.failover.servers import DATABASE, Server
from tests.failover.stage import Stage, set_up
from tests.failover.verdict import Evidence, judge
from tests.soak.stage import PROJECT
from tests.soak.traffic import read_feed
from tests.soak.verdict import Verdict

FINAL_PAYLOADS = """
select 'T-' || turn.turn_number as turn_id, record.payload
from cg_turns as turn
left join cg_records as record
    on (record.project_id, record.turn_number, record.turn_seq)
        = (turn.project_id, turn.turn_number, turn.final_seq)
where turn.project_id = $1 and turn.state = 'closed'
"""

_CALM_SECONDS = 60.0
"""How long no turn may be finished when everything is well again."""

_ANSWER_SECONDS = 180.0
"""How long a dispatch may go without an answer until the drill stops to ask again."""

Disaster = Callable[[Stage], Awaitable[tuple[float, float]]]
"""Does it, and returns when it was done and when there was a primary again."""


@define
class Drill:
    """What a scenario needs to know.

    Attributes:
        folder: where data and logs go.
        chance: what decides the moments.
        turns_per_second: the load.
        seconds: how long it lasts.
    """

    folder: Path
    chance: random.Random = field(factory=random.Random)
    turns_per_second: float = 200.0
    seconds: float = 10.0
    _later: list[asyncio.Task[None]] = field(factory=list)

    async def play(
        self,
        dsn: str,
        disaster: Disaster,
        final: Callable[[], Server],
        *,
        old: Server | None = None,
        is_synchronous: bool = True,
    ) -> Verdict:
        """Put load on two kernels, let the disaster come in the first half, and judge.

        Args:
            dsn: the address of the database, for the kernels.
            disaster: what happens.
            final: the server that is the primary at the end.
            old: the server that was the primary before, if it lives at the end and was never restarted.
            is_synchronous: whether the standby is.
        """
        async with set_up(self.folder, dsn, turns_per_second=self.turns_per_second) as stage:
            traffic = stage.traffic
            traffic.work()
            load = asyncio.create_task(traffic.dispatch(self.seconds))
            try:
                await asyncio.sleep(self.seconds * self.chance.uniform(0.2, 0.5))
                killed_at, promoted_at = await disaster(stage)
                done, _ = await asyncio.wait([load, *self._later], timeout=self.seconds + _ANSWER_SECONDS)
                for task in done:
                    task.result()
                await traffic.all_finished(_CALM_SECONDS if is_synchronous else 5.0)
            finally:
                load.cancel()
                await traffic.stop()
            evidence = Evidence(
                answers=traffic.answers,
                feed=await read_feed(traffic.requesters[0]),
                final_payloads=await _final_payloads(final()),
                kernels=stage.kernels,
                killed_at=killed_at,
                promoted_at=promoted_at,
                old_payloads={} if old is None else await _final_payloads(old),
            )
            return judge(evidence, is_synchronous=is_synchronous)

    async def wait_a_while(self, most: float = 1.0) -> None:
        """Let up to so many seconds pass, as until an operator acts."""
        await asyncio.sleep(self.chance.uniform(0.0, most))

    def do_later(self, what: Callable[[], Awaitable[None]]) -> None:
        """Do something more while the load goes on, such as to let the old primary come back."""

        async def do() -> None:
            await asyncio.sleep(self.seconds * self.chance.uniform(0.1, 0.3))
            await what()

        self._later.append(asyncio.create_task(do()))


@asynccontextmanager
async def two_servers(
    one: Server, two: Server, *, is_synchronous: bool = True
) -> AsyncIterator[tuple[Server, Server]]:
    """Start a primary with a database, and its standby; both are killed at the end."""
    try:
        await follow(one, two, is_synchronous=is_synchronous)
        yield one, two
    finally:
        one.kill()
        two.kill()


async def follow(primary: Server, standby: Server, *, is_synchronous: bool = True) -> None:
    """Make and start a primary with a database, and a standby that follows it."""
    await primary.initialise()
    await primary.start()
    await primary.ask(f"create database {DATABASE}", database="postgres")
    await standby.copy(primary)
    await standby.start()
    if is_synchronous:
        await primary.be_followed_by(standby)
    else:
        await primary.see(standby, "async")


async def _final_payloads(server: Server) -> Mapping[str, object]:
    connection = await asyncpg.connect(server.dsn)
    try:
        rows = await connection.fetch(FINAL_PAYLOADS, PROJECT)
    finally:
        connection.terminate()
    return {row["turn_id"]: None if row["payload"] is None else json.loads(row["payload"]) for row in rows}
