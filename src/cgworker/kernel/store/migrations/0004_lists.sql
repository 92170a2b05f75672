-- Indexes of cg_turns for lists and for keys other than the turn's own are partial now, by a condition that
-- holds for every turn: a statement can use them only if it says `turn_number > 0` itself, as those do that
-- they are made for. All others find turns by their number, or an agent's waiting and running turns by
-- cg_turns_queued and cg_turns_running. Before, while PostgreSQL knew little of the table, a lookup of one turn
-- by any index that begins with the project seemed as good as by its number, and walked past more with each turn.
alter table cg_turns drop constraint cg_turns_project_id_spawn_key_key;
drop index cg_turns_leases;
drop index cg_turns_open;
drop index cg_turns_by_agent;
drop index cg_turns_by_kind;
create unique index cg_turns_by_spawn_key on cg_turns (project_id, spawn_key) where turn_number > 0;
create index cg_turns_leases on cg_turns (claim_expires_at) where state = 'running' and turn_number > 0;
create index cg_turns_open on cg_turns (project_id, state, turn_number)
    where state <> 'closed' and turn_number > 0;
create index cg_turns_by_agent on cg_turns (project_id, target_agent_id, turn_number) where turn_number > 0;
create index cg_turns_by_kind on cg_turns (project_id, turn_kind, turn_number) where turn_number > 0;
