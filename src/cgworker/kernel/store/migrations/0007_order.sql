-- The order in which an agent's turns are claimed (differences 28 and 29).
--
-- A turn is ready while it is queued, waits for no instant (`due_at`) and for no other turn of its serial key
-- (`waits_for_key`). A claim takes the first ready turn of cg_turns_queued: by priority, then by `fair_number`,
-- then by turn number.
--
-- `not_before` and `delay_seconds` are what the dispatch asked for; with a delay, `not_before` is its end.
-- `fairness_key` is empty for turns without one, which count as one key.
--
-- `fair_number` is the turn's number in a start-time fair queue. A turn gets it when it becomes ready: one more
-- than the last ready turn of its key, but not less than the turn that is next (cg_fair_places). Turns of a key
-- with a long queue thus have the numbers 5, 6, 7, ..., and one that joins late gets 5. A claim sets it to 0, so
-- a turn that comes back is in front.
--
-- `waits_for_key` only spares claims from walking past turns that they may not take. A claim still checks that
-- no turn of the key runs and that it takes the key's first; and cg_turns_running_key lets no two run.
alter table cg_turns
    add not_before timestamptz,
    add delay_seconds float8,
    add priority smallint not null default 0 check (priority between -100 and 100),
    add serial_key text,
    add fairness_key text not null default '',
    add fair_number bigint not null default 0,
    add waits_for_key boolean not null default false;

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
    where state = 'queued' and due_at is null and not waits_for_key;
create index cg_turns_fair on cg_turns (project_id, target_agent_id, priority, fairness_key, turn_number)
    where state = 'queued' and due_at is null and not waits_for_key;
create index cg_turns_delayed on cg_turns (project_id, target_agent_id, due_at)
    where state = 'queued' and due_at is not null;
create index cg_turns_queued_key on cg_turns (project_id, target_agent_id, serial_key, turn_number)
    where state = 'queued' and due_at is null and serial_key is not null;
create unique index cg_turns_running_key on cg_turns (project_id, target_agent_id, serial_key)
    where state = 'running' and serial_key is not null;

-- The fair number of a turn that becomes ready now. `number` is its turn number; null if it is the newest.
--   * A turn that comes before others of its key gets the number of the next one, since they stay in order.
--   * Else it comes after the last ready turn of its key (then `is_last` is true), and not before the first turn
--     that could be claimed now.
-- It is inlined into the statement that asks, as all functions here are.
create function cg_fair_places(project text, agent text, level smallint, key text, number bigint)
returns table (fair_number bigint, is_last boolean)
language sql stable
as $$
    select coalesce(next.fair_number, greatest(1, previous.fair_number + 1, first.fair_number)),
        next.fair_number is null
    from (select 1) one
    left join lateral (
        select t.fair_number
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.priority = level
            and t.fairness_key = key and t.turn_number > number
            and t.state = 'queued' and t.due_at is null and not t.waits_for_key
        order by t.turn_number
        limit 1
    ) next on true
    left join lateral (
        select t.fair_number
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.priority = level
            and t.fairness_key = key
            and t.state = 'queued' and t.due_at is null and not t.waits_for_key
        order by t.turn_number desc
        limit 1
    ) previous on true
    left join lateral (
        select t.fair_number
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.priority = level
            and t.fair_number > 0
            and t.state = 'queued' and t.due_at is null and not t.waits_for_key
            and (
                select r.turn_number
                from cg_turns r
                where r.project_id = project and r.target_agent_id = agent
                    and r.serial_key = t.serial_key and r.state = 'running'
                limit 1
            ) is null
        order by t.fair_number
        limit 1
    ) first on true
$$;

-- The turn that a serial key's next claim may take, with its fair number; the key's running turn is left out.
create function cg_next_of_key(project text, agent text, key text)
returns table (turn_number bigint, fair_number bigint)
language sql stable
as $$
    select q.turn_number, f.fair_number
    from (
        select t.turn_number, t.priority, t.fairness_key
        from cg_turns t
        where t.project_id = project and t.target_agent_id = agent and t.serial_key = key
            and t.state = 'queued' and t.due_at is null and t.serial_key is not null
        order by t.turn_number
        limit 1
    ) q
    cross join lateral cg_fair_places(project, agent, q.priority, q.fairness_key, q.turn_number) f
$$;
