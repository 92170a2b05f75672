-- What a turn costs in indexes and lookups, without a change of what is found.

-- The place of a turn that becomes ready after all others of its key, as before (migration 0007). The first turn
-- that could be claimed is looked up only if it can come after the last of the key: if the key has none, or if that
-- one waits for its serial key or has come back to the front.
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
                    and t.is_ready
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
            and t.is_ready
        order by t.turn_number desc
        limit 1
    ) last on true
$$;

-- Leases that have ended are found among the running turns of all agents, which cg_turns_running has. The reaper looks
-- once every few seconds; each claim and each renewal entered its lease here.
drop index cg_turns_leases;
