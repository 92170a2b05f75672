-- The agent that a credential proves, and whether it may act now: the one place where a statement checks who
-- calls. Inlined into the statement that asks, so that revoking a credential and disabling an agent hold for
-- everything that begins after they are committed, on every kernel, without a round trip of its own.
-- `is_touch_due` says that its use has not been noted for a minute.
create function cg_callers(project text, agent text, credential text, secret_sha256 bytea)
returns table (grants text[], is_touch_due boolean)
language sql stable
as $$
    select a.grants, c.last_used_at is null or c.last_used_at < now() - interval '1 minute'
    from cg_credentials c
    join cg_agents a on a.project_id = c.project_id and a.agent_id = c.agent_id
    where c.credential_id = credential and c.secret_hash = secret_sha256
        and c.project_id = project and c.agent_id = agent
        and c.status = 'active' and (c.expires_at is null or c.expires_at > now())
        and a.enabled
    limit 1  -- keeps the lookup by key: joined freely, it may be planned as a walk over all agents
$$;
