"""Parts that the statements of several operations on claims share."""

# The ready turns `t` of agent `a` in the order of claims; of a serial key the first, while none of it runs.
READY_IN_ORDER = """\
            and cg_is_ready(t.state, t.due_at, t.waits_for_key)
            and (t.serial_key is null or t.turn_number = (
                select e.turn_number
                from cg_turns e
                where e.project_id = $1 and e.target_agent_id = a.agent_id
                    and e.serial_key = t.serial_key
                    and cg_place_in_key(e.serial_key, e.due_at, e.state, e.turn_number) is not null
                order by cg_place_in_key(e.serial_key, e.due_at, e.state, e.turn_number)
                limit 1
            ))
        order by t.priority desc, t.fair_number, t.turn_number"""


def ready_turns(count: str) -> str:
    """Return the subquery that locks the next turns of agent `a` in the order of claims.

    It skips turns that are locked already. Of a serial key it takes the first queued turn, and only while
    none of that key runs.

    Args:
        count: the column with the most turns to lock.
    """
    return f"""\
        select t.turn_number, t.priority, t.fair_number
        from cg_turns t
        where t.project_id = $1 and t.target_agent_id = a.agent_id
{READY_IN_ORDER}
        limit {count}
        for no key update skip locked
"""


def is_blocked(agent: str) -> str:
    """Return whether a lease of an agent has ended, or one of its turns is due that is not ready yet.

    Args:
        agent: the agent's id.
    """
    return f"""\
((
            select t.turn_number
            from cg_turns t
            where t.project_id = $1 and t.target_agent_id = {agent}
                and t.state = 'running' and t.claim_expires_at <= cg_now()
            order by t.claim_expires_at
            limit 1
        ) is not null or (
            select t.turn_number
            from cg_turns t
            where t.project_id = $1 and t.target_agent_id = {agent}
                and t.state = 'queued' and t.due_at <= cg_now()
            order by t.due_at
            limit 1
        ) is not null)"""


def records_of_claimed(count: str) -> str:
    """Return the join of the first records of claimed turn `c`, as `r`, up to the size of a page.

    Args:
        count: the column with the most records.
    """
    return f"""\
left join lateral (
    select * from (
        select *, sum(octet_length(payload::text)) over (order by turn_seq) as bytes
        from (
            select turn_seq, record_id, role, box_id, card_id, metadata, payload, created_at as recorded_at
            from cg_records
            where project_id = $1 and turn_number = c.turn_number and turn_seq > 0
            order by turn_seq
            limit {count}
        ) found
    ) counted
    -- Leave out the records beyond the size of a page; the caller sees that some are missing.
    where bytes <= 16777216  -- MAX_PAGE_BYTES
) r on true
"""


# ---------------------------------------------------------------- statements for one item

# The parameters of `close_turn`, `final_record` and `log_end` are those of FINISH_TURN.


def close_turn(condition: str = "true") -> str:
    """Return the update that closes one turn, if its claim is the current one and its credential is valid.

    One row needs no order, so the fence is in the update itself.

    Args:
        condition: what else must hold of turn `t`.
    """
    return f"""\
    update cg_turns t
    set state = 'closed', outcome = $5, closed_at = cg_clock(), updated_at = cg_clock(),
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = $4, settled_digest = $6,
        record_count = t.record_count + ($8::text is not null)::int,
        final_record_role = case when $8::text is not null then $7 end,
        final_seq = case when $8::text is not null then t.record_count + 1 end
    from cg_callers($1, $3, $15, $16) who
    where t.project_id = $1 and t.turn_number = $2
        and t.claim_agent_id = $3 and t.claim_token_hash = $4 and t.claim_expires_at > cg_clock()
        and ($8::text is null or $7::text <> 'provision_launch_started' or (
            select r.turn_number
            from cg_records r
            where r.project_id = $1 and r.turn_number = $2 and r.role = 'provision_launch_started'
            limit 1
        ) is null)
        and {condition}
    returning who.is_touch_due, t.target_agent_id as agent_id, t.cause_kind, t.cause_id,
        t.parent_number, t.serial_key, t.final_seq
"""


def next_turn(step: str, condition: str) -> str:
    """Return the select that locks the next turn of the agent of the one row of a step, if it has one.

    The agent is locked as well, so that no turn is claimed once a drain of it has been answered.

    Args:
        step: the step, with the columns `agent_id`.
        condition: what must hold of the step and of the agent.
    """
    return f"""\
    select q.turn_number
    from {step}
    cross join lateral (
        select agent_id
        from cg_agents
        where project_id = $1 and agent_id = {step}.agent_id and enabled and accepts_work and {condition}
        for no key update
    ) a
    cross join lateral (
{ready_turns("1")}    ) q
"""


def claim_turn(found: str, *, agent: str, token_hash: str, lease: str) -> str:
    """Return the update that claims one turn.

    Args:
        found: the subquery for its number.
        agent: the agent that claims it.
        token_hash: the hash of the claim's token.
        lease: the length of the lease.
    """
    return f"""\
    update cg_turns t
    set state = 'running', claim_agent_id = {agent}, claim_token_hash = {token_hash},
        claim_expires_at = cg_clock() + {lease}, settled_token_hash = null, settled_digest = null,
        fair_number = 0, updated_at = cg_clock()
    where t.project_id = $1 and t.turn_number = ({found})
    returning t.*
"""


def final_record() -> str:
    """Return the insert of the final record of the turn in `closed`."""
    return """\
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, $2, final_seq, $8, $7, $9::text, $10::text, $11::text::json, ($12::json[])[1], cg_clock()
    from closed
    where final_seq is not null
"""


def log_end(more: str = "") -> str:
    """Return the insert of the events of the turn in `closed`: for its record, if it has one, and its end.

    `union all` writes them in this order.

    Args:
        more: what follows in the order of the ledger.
    """
    return f"""\
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || e.turn_number, 'agent', $3,
        e.cause_kind, e.cause_id, e.annotations::json, e.box_id, e.agent_id, e.turn_number, e.parent_number
    from (
        select 'turn.progress_appended' as event_type, agent_id, $2 as turn_number,
            cause_kind, cause_id, $13::text as annotations, $9 as box_id, null::bigint as parent_number
        from closed
        where final_seq is not null
        union all
        select 'turn.finished', agent_id, $2, cause_kind, cause_id, $14, null, parent_number
        from closed
{more}    ) e
"""
