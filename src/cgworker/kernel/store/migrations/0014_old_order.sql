-- unless connected: cgworker
--
-- The order in which kernels of 0.2 claim.
drop index if exists cg_turns_queued;

-- What a database has on which this version ran before its release.
drop index if exists cg_turns_fair;
drop index if exists cg_turns_of_key;
alter table cg_turns drop column if exists is_ready, drop column if exists place_in_key;
