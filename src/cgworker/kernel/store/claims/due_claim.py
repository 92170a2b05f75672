"""Give a turn that is due to a claim that waits for it, in one statement.

Without it, the timer makes the turn ready, the waiting claim is woken and runs a statement of its own. That
is still what happens if this is not possible.

The statement may run a moment before the turn is due. Its transaction is then committed so that this ends
when the turn is due; and not at all if something has changed for the agent meanwhile. Lease and event are
dated from the instant at which the turn is due, and the claim must not be answered earlier.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from attrs import define, evolve

from cgworker.kernel.store.batch import columns
from cgworker.kernel.store.claims.claim import CLAIM_TURNS, ClaimTry, with_all_records
from cgworker.kernel.store.claims.hand_over import WaitingClaim
from cgworker.kernel.store.claims.shared_sql import READY_IN_ORDER
from cgworker.kernel.store.postgres.database import Connection, Database, Row


def _changed(statement: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        if statement.count(old) != 1:
            raise AssertionError(f"not once in the statement: {old}")
        statement = statement.replace(old, new)
    return statement


_COLUMNS_WITH_TIME = "cause_kind, cause_id, annotations, agent_id, turn_number, created_at)\n    select"

# CLAIM_TURNS for the one queued turn of an agent that is due, or will be within $11. It is blocked if any
# other turn might come first: if the agent has a turn that is ready, or a second one that is due by then. No
# other turn of its serial key may run or be ready.
CLAIM_DUE_TURN = _changed(
    CLAIM_TURNS,
    (
        """                and t.state = 'queued' and t.due_at <= cg_now()
            order by t.due_at
            limit 1
        ) is not null) as is_blocked""",
        """                and cg_is_ready(t.state, t.due_at, t.waits_for_key)
            limit 1
        ) is not null or (
            select t.turn_number
            from cg_turns t
            where t.project_id = $1 and t.target_agent_id = a.agent_id
                and t.state = 'queued' and t.due_at <= cg_now() + $11
            order by t.due_at
            limit 1 offset 1
        ) is not null) as is_blocked""",
    ),
    (
        READY_IN_ORDER,
        """            and t.state = 'queued' and t.due_at <= cg_now() + $11
            and (t.serial_key is null or cg_state_of_key($1, a.agent_id, t.serial_key) = 'free')
        order by t.due_at""",
    ),
    # What the claim writes is dated from the instant at which the turn is due.
    ("claim_expires_at = cg_clock() + $2", "claim_expires_at = greatest(cg_clock(), t.due_at) + $2"),
    (
        "fair_number = 0, updated_at = cg_clock()",
        "fair_number = 0, due_at = null, updated_at = greatest(cg_clock(), t.due_at)",
    ),
    ("cause_kind, cause_id, annotations, agent_id, turn_number)\n    select", _COLUMNS_WITH_TIME),
    ("c.target_agent_id, c.turn_number\n", "c.target_agent_id, c.turn_number, c.updated_at\n"),
)


class _GivenUpError(Exception):
    """The claim is not to be committed."""


_MARGIN_SECONDS = 0.001  # by how much a timer of the event loop may be too early or late
_FIRST_PREPARE_SECONDS = 0.005
_MAX_PREPARE_SECONDS = 0.015
_MAX_COMMIT_SECONDS = 0.01  # well below MAX_AHEAD_SECONDS
_WEIGHT = 0.25  # of the last claim


@define
class LeadTime:
    """How long before a turn is due its claim has to begin: as long as the last ones took.

    Attributes:
        prepare_seconds: how long the statement takes.
        commit_seconds: how long the commit takes, up to a bound, since anyone can see the claim meanwhile.
    """

    prepare_seconds: float = _FIRST_PREPARE_SECONDS
    commit_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The time for both, and for the two timers that begin them."""
        return self.prepare_seconds + self.commit_seconds + 2 * _MARGIN_SECONDS

    def note(self, prepare_seconds: float, commit_seconds: float) -> None:
        """Note how long a claim took."""
        prepare_seconds = min(prepare_seconds, _MAX_PREPARE_SECONDS)
        commit_seconds = min(commit_seconds, _MAX_COMMIT_SECONDS)
        self.prepare_seconds += _WEIGHT * (prepare_seconds - self.prepare_seconds)
        self.commit_seconds += _WEIGHT * (commit_seconds - self.commit_seconds)


async def claim_due_turn(
    database: Database, project_id: str, waiting: WaitingClaim, *, lease: timedelta, lead: LeadTime
) -> None:
    """Give a waiting claim the turn of its agent that is due, or is before long, if it comes first of all.

    Args:
        database: the kernel's database.
        project_id: the project of the agent.
        waiting: the claim.
        lease: the length of its lease.
        lead: how long before the turn is due this is called, about.

    Raises:
        InvalidRequest: the database cannot hold a value of the claim.
        KernelOverloaded: the database is unavailable.
    """
    one, time = ClaimTry(waiting.claim), asyncio.get_running_loop().time
    sent = columns([one.row()])
    ahead = timedelta(seconds=lead.seconds + _MARGIN_SECONDS)
    due_at = prepared_at = commits_at = 0.0

    async def claim(connection: Connection) -> list[Row]:
        nonlocal due_at, prepared_at, commits_at
        rows = await connection.fetch(CLAIM_DUE_TURN, project_id, lease, *sent, ahead)
        if rows and rows[0]["turn_number"] is not None:
            # The statement has told its own time too, but its answer took longer.
            now = await connection.fetchval("select cg_clock()")
            prepared_at = time()
            due_at = prepared_at + (rows[0]["updated_at"] - now).total_seconds()
            if await _woken_before(due_at - lead.commit_seconds - _MARGIN_SECONDS, waiting.woken):
                raise _GivenUpError
            commits_at = time()
        return rows

    begun_at = time()
    try:
        rows = await database.transact(claim, retries_duplicates=True)
    except _GivenUpError:
        return
    committed_at = time()
    claimed = await with_all_records(database, one, one.claimed(rows) if rows else None)
    if claimed is not None:
        waiting.give(evolve(claimed, holds_from=due_at))
        lead.note(prepared_at - begun_at, committed_at - commits_at)


async def _woken_before(at: float, woken: asyncio.Event) -> bool:
    """Wait until a time of the event loop; return early, and True, if the event is set before."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(at):
            await woken.wait()
    return woken.is_set()
