"""Give a turn that is due to a claim that waits for it, in one statement.

Without it, the timer makes the turn ready, the waiting claim is woken and runs a statement of its own. That
is still what happens if this is not possible.

The statement may run a moment before the turn is due. Its transaction is then committed when the turn is due,
so that nobody sees the claim earlier; and not at all if something has changed for the agent meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

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
_CLAIMED_AT = "greatest(cg_now(), least(c.not_before, cg_now() + $11))\n"

# CLAIM_TURNS for the one queued turn of an agent that is due, or will be within $11. It is blocked if any
# other turn might come first: if the agent has a turn that is ready, or a second one that is due by then. No
# other turn of its serial key may run or be ready.
CLAIM_DUE_TURN = _changed(
    CLAIM_TURNS,
    (
        """                and t.state = 'queued' and t.due_at <= cg_now()
            order by t.due_at
            limit 1
        ) is not null as is_blocked""",
        """                and cg_is_ready(t.state, t.due_at, t.waits_for_key)
            limit 1
        ) is not null or (
            select t.turn_number
            from cg_turns t
            where t.project_id = $1 and t.target_agent_id = a.agent_id
                and t.state = 'queued' and t.due_at <= cg_now() + $11
            order by t.due_at
            limit 1 offset 1
        ) is not null as is_blocked""",
    ),
    (
        READY_IN_ORDER,
        """            and t.state = 'queued' and t.due_at <= cg_now() + $11
            and (t.serial_key is null or cg_state_of_key($1, a.agent_id, t.serial_key) = 'free')
        order by t.due_at""",
    ),
    ("fair_number = 0, updated_at", "fair_number = 0, due_at = null, updated_at"),
    # The event is of the instant from which the claim holds.
    ("cause_kind, cause_id, annotations, agent_id, turn_number)\n    select", _COLUMNS_WITH_TIME),
    ("c.target_agent_id, c.turn_number\n", "c.target_agent_id, c.turn_number, " + _CLAIMED_AT),
)


class _GivenUpError(Exception):
    """The claim is not to be committed."""


async def claim_due_turn(
    database: Database,
    project_id: str,
    waiting: WaitingClaim,
    *,
    lease: timedelta,
    ahead: timedelta = timedelta(0),
    hold: Callable[[float], Awaitable[bool]] | None = None,
) -> None:
    """Give a waiting claim the turn of its agent that is due, if it comes first of all.

    Args:
        database: the kernel's database.
        project_id: the project of the agent.
        waiting: the claim.
        lease: the length of its lease.
        ahead: how long before it is due the turn may be taken.
        hold: waits so many seconds until the turn is due, and returns whether it is still to be given.

    Raises:
        InvalidRequest: the database cannot hold a value of the claim.
        KernelOverloaded: the database is unavailable.
    """
    one = ClaimTry(waiting.claim)
    sent = columns([one.row()])

    async def claim(connection: Connection) -> list[Row]:
        rows = await connection.fetch(CLAIM_DUE_TURN, project_id, lease, *sent, ahead)
        is_found = bool(rows) and rows[0]["turn_number"] is not None
        if is_found and hold is not None and not await hold(_seconds_left(rows[0], ahead)):
            raise _GivenUpError
        return rows

    try:
        rows = await database.transact(claim, retries_duplicates=True)
    except _GivenUpError:
        return
    claimed = await with_all_records(database, one, one.claimed(rows) if rows else None)
    if claimed is not None:
        waiting.give(claimed)


def _seconds_left(row: Row, ahead: timedelta) -> float:
    """How long until the claimed turn is due."""
    left = row["not_before"] - row["server_time"]
    return left.total_seconds() if left <= ahead else 0.0  # a stop has ended its delay
