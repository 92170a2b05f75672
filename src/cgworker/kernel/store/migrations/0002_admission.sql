-- Admission: who was let into a project, and the invites that let them in. An admission is written in the
-- transaction that registers the agent and issues its credential, so there are no states in between that a
-- crash could leave behind.

-- One row per admitted agent. `request_digest` is of everything the request asked for, so that its repeat
-- can be told from another request under the same id. Request ids have no limit: their hash is indexed.
create table cg_admissions (
    project_id text not null,
    agent_id text not null,
    request_id text not null,
    request_hash bytea not null,
    request_digest bytea not null,
    profile_kind text not null,
    created_at timestamptz not null default now(),
    primary key (project_id, agent_id),
    unique (project_id, request_hash)
);

-- Join invites. Only the SHA-256 of the code is kept. `request_id` is the request that every redeem of this
-- invite makes: the first admits the agent, the others repeat it. `capacity` and `grants` are what the agent
-- is born with. An invite is usable while it is not disabled, not expired and not used up.
create table cg_invites (
    invite_id text primary key,
    project_id text not null,
    agent_id text not null,
    request_id text not null,
    code_hash bytea not null unique,
    profile_kind text not null,
    runtime_kind text not null,
    display_name text not null,
    description text,
    capacity integer not null check (capacity > 0),
    grants text[] not null,
    issued_by_user_id text not null,
    expires_at timestamptz not null,
    max_uses integer not null check (max_uses > 0),
    use_count integer not null default 0 check (use_count between 0 and max_uses),
    disabled_at timestamptz,
    last_redeemed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index cg_invites_by_project on cg_invites (project_id, created_at);
