-- The kernel's clock, of which there is one for all kernels on a database. No statement asks PostgreSQL for the
-- time itself, so that the test kit can move the clock: it replaces both functions (testing/clock.py).
-- PostgreSQL inlines them, so they cost nothing, and their plans are those of now() and clock_timestamp().

-- When the statement's transaction began; an index can be searched by it.
create function cg_now() returns timestamptz
language sql stable parallel safe
as 'select now()';

-- The time at this moment, also after a lock was waited for.
create function cg_clock() returns timestamptz
language sql volatile parallel safe
as 'select clock_timestamp()';

alter table cg_agents alter created_at set default cg_now(), alter updated_at set default cg_now();
alter table cg_credentials alter created_at set default cg_now(), alter updated_at set default cg_now();
alter table cg_ledger alter created_at set default cg_now();
alter table cg_idempotency_keys alter created_at set default cg_now();
alter table cg_admissions alter created_at set default cg_now();
alter table cg_invites alter created_at set default cg_now(), alter updated_at set default cg_now();

-- As before, by this clock.
create or replace function cg_callers(project text, agent text, credential text, secret_sha256 bytea)
returns table (grants text[], is_touch_due boolean)
language sql stable
as $$
    select a.grants, c.last_used_at is null or c.last_used_at < cg_now() - interval '1 minute'
    from cg_credentials c
    join cg_agents a on a.project_id = c.project_id and a.agent_id = c.agent_id
    where c.credential_id = credential and c.secret_hash = secret_sha256
        and c.project_id = project and c.agent_id = agent
        and c.status = 'active' and (c.expires_at is null or c.expires_at > cg_now())
        and a.enabled
    limit 1
$$;
