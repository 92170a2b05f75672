-- transaction: none
--
-- The order of 0010_turn_order.sql. The functions are inlined, here and in the statements that look for turns.
create index concurrently if not exists cg_turns_ready
    on cg_turns (project_id, target_agent_id, priority desc, fair_number, turn_number)
    where cg_is_ready(state, due_at, waits_for_key);
create index concurrently if not exists cg_turns_by_fairness_key
    on cg_turns (project_id, target_agent_id, priority, fairness_key, turn_number)
    where cg_is_ready(state, due_at, waits_for_key);
create unique index concurrently if not exists cg_turns_by_serial_key
    on cg_turns (project_id, target_agent_id, serial_key, cg_place_in_key(serial_key, due_at, state, turn_number))
    where cg_place_in_key(serial_key, due_at, state, turn_number) is not null;
