-- replaces: 0011_cost.sql
-- unless connected: cgworker
--
-- How kernels of 0.2, whose connections have this name, find leases that have ended. This version finds them among the
-- running turns of all agents, in cg_turns_running: each claim and each renewal entered its lease here.
drop index if exists cg_turns_leases;
