"""A drill: a primary and its standby, two kernels and their clients, and a disaster under load."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from attrs import define, field

from tests.failover.answers import read_workers
from tests.failover.servers import DATABASE, Server
from tests.failover.stage import Stage, set_up
from tests.failover.verdict import ClosedTurn, Evidence, judge
from tests.soak.stage import PROJECT
from tests.soak.traffic import read_feed
from tests.soak.verdict import Verdict

CLOSED_TURNS = """
select 'T-' || turn.turn_number as turn_id, final.payload, given.payload as input
from cg_turns as turn
join cg_records as given
    on (given.project_id, given.turn_number, given.turn_seq) = (turn.project_id, turn.turn_number, 1)
left join cg_records as final
    on (final.project_id, final.turn_number, final.turn_seq)
        = (turn.project_id, turn.turn_number, turn.final_seq)
where turn.project_id = $1 and turn.state = 'closed'
"""

COUNT_OPEN = "select count(*) from cg_turns where project_id = $1 and state <> 'closed'"

_CALM_SECONDS = 60.0
"""How long no turn may be closed when everything is well again."""

_ANSWER_SECONDS = 180.0
"""How long a dispatch may go without an answer until the drill stops to ask again."""

Disaster = Callable[[Stage], Awaitable[tuple[float, float]]]
"""Does it, and returns when it was done and when there was a primary again."""

Bound = Callable[[], float]
"""Says before which time nothing that was answered may be lost."""


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
        kept_before: Bound | None = None,
    ) -> Verdict:
        """Put load on two kernels, let the disaster come in the first half, and judge.

        Args:
            dsn: the address of the database, for the kernels.
            disaster: what happens.
            final: the server that is the primary at the end.
            old: the server that was the primary before, if it lives at the end and was never restarted.
            kept_before: with an asynchronous standby, before which time nothing may be lost; then as much
                must be lost.
        """
        async with set_up(
            self.folder, dsn, turns_per_second=self.turns_per_second, chance=self.chance
        ) as stage:
            load = asyncio.create_task(stage.traffic.dispatch(self.seconds))
            try:
                await asyncio.sleep(self.seconds * self.chance.uniform(0.2, 0.5))
                killed_at, promoted_at = await disaster(stage)
                done, _ = await asyncio.wait([load, *self._later], timeout=self.seconds + _ANSWER_SECONDS)
                for task in done:
                    task.result()
                await _all_closed(final())
                closed = await _closed_turns(final())
                changed = await stage.traffic.dispatch_again()
                await _all_closed(final())
            finally:
                load.cancel()
            ended = await stage.dismiss_workers()
            answers = stage.traffic.answers
            read_workers(stage.journal, answers)
            evidence = Evidence(
                answers=answers,
                feed=await read_feed(stage.traffic.requesters[0]),
                closed=closed,
                closed_in_the_end=await _closed_turns(final()),
                changed_dispatches=changed,
                servants=[*stage.kernels, *stage.workers],
                ended_badly=ended,
                results_kept=stage.results_kept(),
                killed_at=killed_at,
                promoted_at=promoted_at,
                closed_on_old={} if old is None else await _closed_turns(old),
            )
            return judge(evidence, kept_before=None if kept_before is None else kept_before())

    async def wait_a_while(self, least: float = 0.0, most: float = 1.0) -> None:
        """Let so many seconds pass, as until an operator acts."""
        await asyncio.sleep(self.chance.uniform(least, most))

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


async def _all_closed(server: Server) -> None:
    """Wait until each turn is closed, or none is for a while."""
    left, deadline = -1, time.monotonic() + _CALM_SECONDS
    while left and time.monotonic() < deadline:
        found = await server.ask(COUNT_OPEN, PROJECT)
        if found != left:
            left, deadline = found, time.monotonic() + _CALM_SECONDS
        await asyncio.sleep(0.1)


async def _closed_turns(server: Server) -> Mapping[str, ClosedTurn]:
    connection = await asyncpg.connect(server.dsn)
    try:
        rows = await connection.fetch(CLOSED_TURNS, PROJECT)
    finally:
        connection.terminate()
    return {
        row["turn_id"]: ClosedTurn(json.loads(row["input"]), json.loads(row["payload"] or "null"))
        for row in rows
    }
