-- The order in which an agent's turns are claimed (differences 28 and 29).
--
-- A turn is ready (`is_ready`) while it is queued, waits for no instant (`due_at`) and for no other turn of its
-- serial key (`waits_for_key`). A claim takes the first ready turn of cg_turns_queued: by priority, then by `fair_number`,
-- then by turn number.
--
-- `not_before` and `delay_seconds` are what the dispatch asked for; with a delay, `not_before` is its end.
-- `fairness_key` is empty for turns without one, which count as one key.
--
-- `fair_number` is the turn's number in a start-time fair queue. A turn gets it when it becomes ready: one more
-- than the last ready turn of its key, but not less than the turn that is next (cg_last_place). Turns of a key
-- with a long queue thus have the numbers 5, 6, 7, ..., and one that joins late gets 5. A claim sets it to 0, so
-- a turn that comes back is in front.
--
-- `waits_for_key` only spares claims from walking past turns that they may not take. A claim still checks that
-- its turn comes first in cg_turns_of_key: there a running turn has the place 0 and a queued one its number, so no
-- two of a key can run.
alter table cg_turns
    add not_before timestamptz,
    add delay_seconds float8,
    add priority smallint not null default 0 check (priority between -100 and 100),
    add serial_key text,
    add fairness_key text not null default '',
    add fair_number bigint not null default 0,
    add waits_for_key boolean not null default false;
-- Computed once, so that each index has but one column to look at.
alter table cg_turns
    add is_ready boolean generated always as (state = 'queued' and due_at is null and not waits_for_key) stored,
    add place_in_key bigint generated always as (case
        when serial_key is null or due_at is not null then null
        when state = 'running' then 0
        when state = 'queued' then turn_number
    end) stored;

update cg_turns t
set fair_number = q.fair_number
from (
    select project_id, turn_number,
        row_number() over (partition by project_id, target_agent_id order by turn_number) as fair_number
    from cg_turns
    where state = 'queued'
) q
where t.project_id = q.project_id and t.turn_number = q.turn_number;

drop index cg_turns_queued;
create index cg_turns_queued on cg_turns (project_id, target_agent_id, priority desc, fair_number, turn_number)
    where is_ready;
create index cg_turns_fair on cg_turns (project_id, target_agent_id, priority, fairness_key, turn_number)
    where is_ready;
create unique index cg_turns_of_key on cg_turns (project_id, target_agent_id, serial_key, place_in_key)
    where place_in_key is not null;

-- Whether a turn of a serial key runs, else whether one is queued and may be claimed; 'free' if neither.
create function cg_state_of_key(project text, agent text, key text)
returns text
language plpgsql stable
as $$
begin
    return coalesce(
        (
            select t.state
            from cg_turns t
            where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
                and t.place_in_key is not null
            order by t.place_in_key
            limit 1
        ),
        'free'
    );
end
$$;

-- The number in the fair queue of a turn that becomes ready after all others of its key: one more than the last,
-- and not before the first that could be claimed now. It is inlined into the statement that asks.
create function cg_last_place(project text, agent text, level smallint, key text)
returns table (fair_number bigint)
language sql stable
as $$
    select greatest(
        1,
        (
            select t.fair_number + 1
            from cg_turns t
            where t.project_id = project and t.target_agent_id = agent and t.priority = level
                and t.fairness_key = key
                and t.is_ready
            order by t.turn_number desc
            limit 1
        ),
        (
            select t.fair_number
            from cg_turns t
            where t.project_id = project and t.target_agent_id = agent and t.priority = level
                and t.fair_number > 0
                and t.is_ready
                and (
                    t.serial_key is null
                    or cg_state_of_key(project, agent, t.serial_key) <> 'running'
                )
            order by t.fair_number
            limit 1
        )
    )
$$;

-- The number of a turn that becomes ready and may have a lower turn number than others of its key: it gets the
-- number of the next of them, since turns of a key stay in order; if there is none, the last place.
create function cg_place(project text, agent text, level smallint, key text, number bigint)
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
            and t.is_ready
        order by t.turn_number
        limit 1
    ) next on true
$$;

-- What follows is called for turns with a serial key only. It is not inlined, so that other turns do not pay for it.

-- Whether a turn that becomes ready must wait for an earlier queued one of its key, which then is locked: it
-- cannot be claimed before this commits, so the statement that ends it later sees the turn that waits. An earlier
-- turn that is being claimed in this moment is skipped.
create function cg_must_wait(project text, agent text, key text, number bigint)
returns boolean
language plpgsql volatile
as $$
begin
    perform
    from cg_turns t
    where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
        and t.place_in_key between 1 and number - 1
    order by t.place_in_key desc
    limit 1
    for share skip locked;
    return found;
end
$$;

-- Make the next turn of a serial key ready, when one of the key has ended or was suspended.
create function cg_free_key(project text, agent text, key text)
returns void
language plpgsql volatile
as $$
declare
    next record;
begin
    select t.turn_number, t.priority, t.fairness_key into next
    from cg_turns t
    where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
        and t.place_in_key > 0
    order by t.place_in_key
    limit 1;
    update cg_turns t
    set waits_for_key = false,
        fair_number = (select fair_number from cg_place(project, agent, next.priority, next.fairness_key,
            next.turn_number))
    where t.project_id = project and t.turn_number = next.turn_number and t.state = 'queued';
end
$$;
