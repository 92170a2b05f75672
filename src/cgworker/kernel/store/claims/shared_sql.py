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
