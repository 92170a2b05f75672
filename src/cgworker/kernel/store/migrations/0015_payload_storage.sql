-- PostgreSQL's own compression takes 1.5 ms for a payload of 32 KB, as much as all the rest of its turn. A kernel has
-- payloads compressed by LZ4 where the server has it (postgres/database.py); where not, they are kept as they are.
do $$
begin
    if not exists (
        select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)
    ) then
        alter table cg_records alter payload set storage external;
    end if;
end
$$;
