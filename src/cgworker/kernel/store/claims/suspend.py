"""Putting a turn aside."""

from __future__ import annotations

from cgworker.kernel.store.annotations import annotate, with_remarks
from cgworker.kernel.store.claims.finish import require_repeat
from cgworker.kernel.store.ids import digest, hash_of, turn_number
from cgworker.kernel.store.postgres import Database
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import Suspend

SUSPEND_TURN = """
with suspended as (
    update cg_turns
    set state = 'suspended', updated_at = clock_timestamp(), attempt = 1,
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = $4, settled_digest = $5
    where project_id = $1 and turn_number = $2
        and state = 'running' and claim_agent_id = $3 and claim_token_hash = $4
        and claim_expires_at > clock_timestamp()
    returning *
), freed as (
    update cg_agents a
    set held_count = a.held_count - 1
    from suspended s
    where a.project_id = s.project_id and a.agent_id = s.target_agent_id
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.suspended', 'turn', 'T-' || turn_number, 'agent', $3,
        cause_kind, cause_id, $6::json, target_agent_id, turn_number
    from suspended
)
select turn_number from suspended
"""


async def suspend_turn(database: Database, claim: ClaimToken, suspend: Suspend) -> None:
    """Put the turn aside; a repeat with the same token, reason and note changes nothing (decision 4).

    Raises:
        NotFoundError, FencingError: the claim is not the current one, or its lease has ended.
    """
    content = digest(["suspended", suspend.reason, suspend.note])
    said = annotate(with_remarks(suspend.meta, reason=suspend.reason, note=suspend.note))
    suspended = await database.fetchval(
        SUSPEND_TURN,
        claim.project_id,
        turn_number(claim.turn_id),
        claim.agent_id,
        hash_of(claim.token),
        content,
        said,
    )
    if suspended is None:
        await require_repeat(database, claim, content)
