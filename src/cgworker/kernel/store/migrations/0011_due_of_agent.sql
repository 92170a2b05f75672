-- replaces: 0010_due_of_agent.sql
-- transaction: none
--
-- A claim looks for turns of its agent that are due. Without an index for that, it may be planned as a walk over all
-- turns of the agent, also those that have ended. Turns that wait for no instant are not in this index.
create index concurrently if not exists cg_turns_due_of_agent
    on cg_turns (project_id, target_agent_id, due_at) where due_at is not null;
