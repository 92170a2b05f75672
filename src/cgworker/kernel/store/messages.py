"""Tell turns something: messages become records of the turn, without a claim (difference 32)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.ids import digest, digest_of_text, new_box_id, new_record_id, turn_number
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.records import card_metadata
from cgworker.wire.converter import dumps
from cgworker.wire.records import MESSAGE_ROLE
from cgworker.wire.refs import AgentRef, CardBoxRef, TurnRef
from cgworker.wire.refusals import Refusal
from cgworker.wire.turns import TellTurn

LOCK_TURN = """
select state, target_agent_id, $3 in (target_agent_id, requested_by_agent_id) as is_concerned
from cg_turns
where project_id = $1 and turn_number = $2
for no key update
"""

# A statement of its own, after the lock: so it sees the message of a repeat that held the lock before. The
# key is looked for in the metadata, since PostgreSQL cannot look into a payload that holds a NUL character.
FIND_TOLD = """
select box_id, payload
from cg_records
where project_id = $1 and turn_number = $2 and role = 'message'
    and metadata ->> 'cg_sender' = $3 and metadata ->> 'cg_key' = $4
"""

ADD_MESSAGE = """
with counted as (
    update cg_turns
    set record_count = record_count + 1, updated_at = cg_clock()
    where project_id = $1 and turn_number = $2
    returning *
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, $2, record_count, $4, 'message', $5, $6, $7::json, $8::json, cg_clock()
    from counted
)
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
    cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
select $1, 'turn.told', 'turn', 'T-' || turn_number, 'agent', $3,
    cause_kind, cause_id, $9::json, $5, target_agent_id, turn_number
from counted
"""


@frozen
class Told:
    """A message that the turn has: the reference of its content, and the turn's agent."""

    box: CardBoxRef
    agent: AgentRef
    is_new: bool


async def tell_turn(database: Database, ref: TurnRef, request: TellTurn, *, may_tell_any: bool) -> Told:
    """Add a message to a turn that is not closed; a repeat with the same key adds nothing.

    Raises:
        NotFoundError: there is no such turn.
        FencingError: the caller is neither the turn's requester nor its agent, and lacks the grant.
        ConflictError: the turn is closed, or the key was used with another message.
    """
    number, sender = turn_number(ref.turn_id), request.requested_by.agent_id
    box = CardBoxRef(project_id=ref.project_id, cardbox_id=new_box_id())
    payload = {"from": sender, "message": request.message, "key": request.key}
    values = (
        new_record_id(),
        box.cardbox_id,
        new_box_id(),
        card_metadata(MESSAGE_ROLE, **({} if request.key is None else _names(sender, request.key))),
        dumps(payload).decode(),
        annotate(request.meta, record_role=MESSAGE_ROLE),
    )

    async def tell(connection: Connection) -> tuple[Row | None, Row | None]:
        turn = await connection.fetchrow(LOCK_TURN, ref.project_id, number, sender)
        if turn is None or not (turn["is_concerned"] or may_tell_any):
            return turn, None
        if request.key is not None:
            told = await connection.fetchrow(FIND_TOLD, ref.project_id, number, sender, request.key)
            if told is not None:
                return turn, told
        if turn["state"] != "closed":
            await connection.execute(ADD_MESSAGE, ref.project_id, number, sender, *values)
        return turn, None

    turn, first = await database.transact(tell)
    if turn is None:
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    agent = AgentRef(project_id=ref.project_id, agent_id=turn["target_agent_id"])
    if first is not None:
        return await _told_before(first, payload, agent)
    if not (turn["is_concerned"] or may_tell_any):
        raise Refusal.MAY_NOT_TELL.error()
    if turn["state"] == "closed":
        raise ConflictError("a closed turn cannot be told anything")
    return Told(box, agent, is_new=True)


async def _told_before(first: Row, payload: dict[str, Any], agent: AgentRef) -> Told:
    """Return the message that a repeat names.

    Raises:
        ConflictError: the key was used with another message.
    """
    if await digest_of_text(first["payload"]) != digest(payload):
        raise ConflictError("key was used with another message")
    return Told(CardBoxRef(project_id=agent.project_id, cardbox_id=first["box_id"]), agent, is_new=False)


def _names(sender: str, key: str) -> dict[str, str]:
    return {"cg_sender": sender, "cg_key": key}
