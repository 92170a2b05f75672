-- The order in which an agent's turns are claimed (differences 28 and 29).
--
-- A turn is ready (cg_is_ready) while it is queued, waits for no instant (`due_at`) and for no other turn of its
-- serial key (`waits_for_key`). A claim takes the first ready turn of cg_turns_ready: by priority, then by
-- `fair_number`, then by turn number.
--
-- `fair_number` is the turn's number in a start-time fair queue. A turn gets it when it becomes ready: one more
-- than the last ready turn of its key, but not less than the turn that is next (cg_last_place). Turns of a key
-- with a long queue thus have the numbers 5, 6, 7, ..., and one that joins late gets 5. A claim sets it to 0, so
-- a turn that comes back is in front.
--
-- `waits_for_key` only spares claims from walking past turns that they may not take. A claim still checks that
-- its turn comes first in cg_turns_by_serial_key: there a running turn has the place 0 and a queued one its number,
-- so no two of a key can run.
alter table cg_turns validate constraint cg_turns_priority_check;

-- Both are inlined into statements and indexes, so they never change. Generated columns would do the same, but adding
-- those rewrites the table.
create or replace function cg_is_ready(state text, due_at timestamptz, waits_for_key boolean)
returns boolean
language sql immutable parallel safe
as 'select state = ''queued'' and due_at is null and not waits_for_key';

create or replace function cg_place_in_key(serial_key text, due_at timestamptz, state text, turn_number bigint)
returns bigint
language sql immutable parallel safe
as $$
    select case
        when serial_key is null or due_at is not null then null
        when state = 'running' then 0
        when state = 'queued' then turn_number
    end
$$;

-- Whether a turn of a serial key runs, else whether one is queued and may be claimed; 'free' if neither.
create or replace function cg_state_of_key(project text, agent text, key text)
returns text
language plpgsql stable
as $$
begin
    return coalesce(
        (
            select t.state
            from cg_turns t
            where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
                and cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number) is not null
            order by cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number)
            limit 1
        ),
        'free'
    );
end
$$;

-- The number in the fair queue of a turn that becomes ready after all others of its key: one more than the last,
-- and not before the first that could be claimed now. That one is looked up only if it can come after the last of
-- the key: if the key has none, or if its last waits for its serial key or has come back to the front. The function
-- is inlined into the statement that asks.
create or replace function cg_last_place(project text, agent text, level smallint, key text)
returns table (fair_number bigint)
language sql stable
as $$
    select case
        when last.fair_number > 0 and last.serial_key is null then last.fair_number + 1
        else greatest(
            1,
            last.fair_number + 1,
            (
                select t.fair_number
                from cg_turns t
                where t.project_id = project and t.target_agent_id = agent and t.priority = level
                    and t.fair_number > 0
                    and cg_is_ready(t.state, t.due_at, t.waits_for_key)
                    and (
                        t.serial_key is null
                        or cg_state_of_key(project, agent, t.serial_key) <> 'running'
                    )
                order by t.fair_number
                limit 1
            )
        )
    end
    from (select) one
    left join lateral (
        select t.fair_number, t.serial_key
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.priority = level
            and t.fairness_key = key
            and cg_is_ready(t.state, t.due_at, t.waits_for_key)
        order by t.turn_number desc
        limit 1
    ) last on true
$$;

-- The number of a turn that becomes ready and may have a lower turn number than others of its key: it gets the
-- number of the next of them, since turns of a key stay in order; if there is none, the last place.
create or replace function cg_place(project text, agent text, level smallint, key text, number bigint)
returns table (fair_number bigint, is_last boolean)
language sql stable
as $$
    select coalesce(next.fair_number, last.fair_number), next.fair_number is null
    from cg_last_place(project, agent, level, key) last
    left join lateral (
        select t.fair_number
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.priority = level
            and t.fairness_key = key and t.turn_number > number
            and cg_is_ready(t.state, t.due_at, t.waits_for_key)
        order by t.turn_number
        limit 1
    ) next on true
$$;

-- What follows is called for turns with a serial key only. It is not inlined, so that other turns do not pay for it.

-- Whether a turn that becomes ready must wait for an earlier queued one of its key, which then is locked: it
-- cannot be claimed before this commits, so the statement that ends it later sees the turn that waits. An earlier
-- turn that is being claimed in this moment is skipped.
create or replace function cg_must_wait(project text, agent text, key text, number bigint)
returns boolean
language plpgsql volatile
as $$
begin
    perform
    from cg_turns t
    where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
        and cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number) between 1 and number - 1
    order by cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number) desc
    limit 1
    for share skip locked;
    return found;
end
$$;

-- Make the next turn of a serial key ready, when one of the key has ended or was suspended.
create or replace function cg_free_key(project text, agent text, key text)
returns void
language plpgsql volatile
as $$
declare
    next record;
begin
    select t.turn_number, t.priority, t.fairness_key into next
    from cg_turns t
    where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
        and cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number) > 0
    order by cg_place_in_key(t.serial_key, t.due_at, t.state, t.turn_number)
    limit 1;
    update cg_turns t
    set waits_for_key = false,
        fair_number = (select fair_number from cg_place(project, agent, next.priority, next.fairness_key,
            next.turn_number))
    where t.project_id = project and t.turn_number = next.turn_number and t.state = 'queued';
end
$$;
