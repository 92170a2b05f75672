-- Projects that move between databases (store/moves.py). A project is closed from `closed_at` on: its rows cannot be
-- changed here. When they have been removed, `forgotten_at` is set; the row stays, so that who still asks for the
-- project here is told to ask again. `imported_digest` is that of the file from which the project came.
create table cg_moves (
    project_id text primary key,
    closed_at timestamptz,
    forgotten_at timestamptz check (forgotten_at is null or closed_at is not null),
    imported_digest bytea,
    imported_at timestamptz
);

-- Refuses a write. The kernel answers with 503 and Retry-After.
create function cg_refuse_write() returns trigger
language plpgsql
as $$
begin
    raise exception using errcode = 'XCG01', message = 'the project is closed';
end
$$;

-- Close a project: let each table refuse to have rows of it inserted, changed and deleted. To create a trigger waits
-- for all transactions that have written to the table, and keeps others from it until the commit. So whatever has been
-- written to the project is committed by then, and nothing is written later; open projects pay nothing.
-- That a credential is used may still be noted. `cgworker.moves` is set by the transactions that move a project.
create function cg_close_project(project text) returns void
language plpgsql
as $$
declare
    one record;
begin
    for one in
        select c.relname as name, case c.relname when 'cg_credentials' then 'update of status' else 'update' end as change
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = 'project_id' and not a.attisdropped
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
            and c.relname like 'cg\_%' and c.relname <> 'cg_moves'
        order by c.relname
    loop
        execute format(
            'create or replace trigger %I after insert or %s on %I for each row '
            'when (new.project_id = %L and current_setting(''cgworker.moves'', true) is distinct from ''on'') '
            'execute function cg_refuse_write()',
            'cg_closed_' || md5(project), one.change, one.name, project);
        execute format(
            'create or replace trigger %I after delete on %I for each row '
            'when (old.project_id = %L and current_setting(''cgworker.moves'', true) is distinct from ''on'') '
            'execute function cg_refuse_write()',
            'cg_closed_' || md5(project) || '_delete', one.name, project);
    end loop;
end
$$;

-- Undo cg_close_project.
create function cg_open_project(project text) returns void
language plpgsql
as $$
declare
    one record;
begin
    for one in
        select t.tgname as name, c.relname as table_name
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = current_schema()::regnamespace
            and t.tgname in ('cg_closed_' || md5(project), 'cg_closed_' || md5(project) || '_delete')
        order by c.relname, t.tgname
    loop
        execute format('drop trigger %I on %I', one.name, one.table_name);
    end loop;
end
$$;
