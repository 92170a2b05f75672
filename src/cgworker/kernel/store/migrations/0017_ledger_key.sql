-- unless connected: cgworker
--
-- Kernels of 0.2 find the events that they number by this key. This version finds them in cg_ledger_unnumbered, and
-- nothing else looks for an event by its id. Each event was entered here when it was written and when it was numbered.
-- Where the table is published the key stays: without one, PostgreSQL would refuse to number events.
do $$
begin
    if not exists (
        select from pg_publication_tables where schemaname = current_schema() and tablename = 'cg_ledger'
    ) then
        alter table cg_ledger drop constraint cg_ledger_pkey;
    end if;
end
$$;
