"""Give a turn that is due to a claim that waits for it, in one statement.

Without it, the timer makes the turn ready, the waiting claim is woken and runs a statement of its own. That
is still what happens if this is not possible.
"""

from __future__ import annotations

from datetime import timedelta

from cgworker.kernel.store.batch import columns
from cgworker.kernel.store.claims.claim import CLAIM_TURNS, ClaimTry, with_all_records
from cgworker.kernel.store.claims.hand_over import WaitingClaim
from cgworker.kernel.store.postgres.database import Database


def _changed(statement: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        if statement.count(old) != 1:
            raise AssertionError(f"not once in the statement: {old}")
        statement = statement.replace(old, new)
    return statement


# CLAIM_TURNS for the one queued turn of an agent that is due. It is blocked if any other turn might come
# first: if the agent has a turn that is ready, or a second one that is due. No other turn of its serial key
# may run or be ready.
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
                and t.state = 'queued' and t.due_at <= cg_now()
            order by t.due_at
            limit 1 offset 1
        ) is not null as is_blocked""",
    ),
    (
        """            and cg_is_ready(t.state, t.due_at, t.waits_for_key)
            and (t.serial_key is null or t.turn_number = (
                select e.turn_number
                from cg_turns e
                where e.project_id = $1 and e.target_agent_id = a.agent_id
                    and e.serial_key = t.serial_key
                    and cg_place_in_key(e.serial_key, e.due_at, e.state, e.turn_number) is not null
                order by cg_place_in_key(e.serial_key, e.due_at, e.state, e.turn_number)
                limit 1
            ))
        order by t.priority desc, t.fair_number, t.turn_number""",
        """            and t.state = 'queued' and t.due_at <= cg_now()
            and (t.serial_key is null or cg_state_of_key($1, a.agent_id, t.serial_key) = 'free')
        order by t.due_at""",
    ),
    ("fair_number = 0, updated_at", "fair_number = 0, due_at = null, updated_at"),
)


async def claim_due_turn(
    database: Database, project_id: str, waiting: WaitingClaim, *, lease: timedelta
) -> None:
    """Give a waiting claim the turn of its agent that is due, if it comes first of all.

    Args:
        database: the kernel's database.
        project_id: the project of the agent.
        waiting: the claim.
        lease: the length of its lease.

    Raises:
        InvalidRequest: the database cannot hold a value of the claim.
        KernelOverloaded: the database is unavailable.
    """
    one = ClaimTry(waiting.claim)
    sent = columns([one.row()])
    rows = await database.fetch_retrying_duplicates(CLAIM_DUE_TURN, project_id, lease, *sent)
    claimed = await with_all_records(database, one, one.claimed(rows) if rows else None)
    if claimed is not None:
        waiting.give(claimed)
