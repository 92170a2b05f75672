-- The kernel's schema. Forward only; `store/migrate.py` runs each file once, under an advisory lock.
--
-- Two rules hold throughout:
--   * Whoever locks a turn and its agent locks the turn first. Reports, dispatches, claims and settles
--     mixed on one agent then cannot deadlock (there are no foreign keys to agents for the same reason:
--     their key-share locks would come first).
--   * Every key of a busy table begins with project_id, so that it can be distributed by it.

-- One row per project. `turn_count` numbers the turns: T-1, T-2, ... without gaps, so a dispatch takes
-- this row last and holds it until its commit.
create table cg_projects (
    project_id text primary key,
    turn_count bigint not null default 0
);

-- How far the ledger of a project is numbered; see cg_ledger. A row of its own, so that numbering the
-- ledger and numbering turns do not wait for each other.
create table cg_ledger_heads (
    project_id text primary key,
    ledger_seq bigint not null default 0
);

-- Agents. `held_count` is how many turns the agent has running: a claim takes a slot with
-- `held_count + 1 where held_count < capacity`, whoever ends the claim gives it back. It may exceed
-- `capacity` only after capacity was lowered. `updated_at` does not move with it. `has_offers` says whether
-- the metadata has turn offers: PostgreSQL itself cannot look into JSON that holds a NUL character.
create table cg_agents (
    project_id text not null,
    agent_id text not null,
    role text,
    description text,
    enabled boolean not null,
    accepts_work boolean not null,
    capacity integer not null check (capacity > 0),
    held_count integer not null default 0 check (held_count >= 0),
    capabilities text[] not null,
    grants text[] not null,
    public_metadata json not null,
    has_offers boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_seen_at timestamptz,
    registered_by_agent_id text,
    registration_provenance_kind text,
    registration_provenance_ref text,
    registration_provenance_payload_hash text,
    admitted_spec_hash text,
    primary key (project_id, agent_id)
) with (fillfactor = 70);
create index cg_agents_by_capability on cg_agents using gin (capabilities) with (fastupdate = off);
create index cg_agents_offering on cg_agents (project_id, agent_id)
    where has_offers;

-- Bearer credentials. Only the SHA-256 of the secret is kept.
create table cg_credentials (
    credential_id text primary key,
    project_id text not null,
    agent_id text not null,
    secret_hash bytea not null,
    status text not null check (status in ('active', 'revoked')),
    issued_by_agent_id text,
    provenance_kind text,
    provenance_ref text,
    provenance_payload_hash text,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    revoked_at timestamptz,
    last_used_at timestamptz,
    check ((status = 'revoked') = (revoked_at is not null))
) with (fillfactor = 70);
create index cg_credentials_by_agent on cg_credentials (project_id, agent_id, created_at, credential_id);

-- Which spawn keys are taken. Two first dispatches with one key meet here: the loser waits for the
-- winner's commit and then reads the winner's turn.
create table cg_spawns (
    project_id text not null,
    spawn_key text not null,
    primary key (project_id, spawn_key)
);

-- Turns. The states and their arrows are lifecycle.py's table:
--   queued    -> running (claim)
--   running   -> closed (finish, stop after the lease), suspended (suspend), queued (reconcile)
--   suspended -> queued (resume)
--   closed       final
-- The claim columns are set exactly while running. `settled_*` remember the last finish or suspend, so
-- that its repeat can be answered (difference 4); a claim clears them. `attempt` is 1 + the claims that
-- ended by expiry since the turn was last suspended (difference 8). `final_seq` is the cg_records row that
-- holds the final payload. `record_count` is the highest turn_seq given.
create table cg_turns (
    project_id text not null,
    turn_number bigint not null check (turn_number > 0),
    target_agent_id text not null,
    requested_by_agent_id text not null,
    turn_kind text not null,
    cause_kind text not null check (cause_kind in ('external_request', 'turn')),
    cause_id text not null,
    parent_number bigint check ((parent_number is not null) = (cause_kind = 'turn')),
    spawn_key text not null,
    state text not null check (state in ('queued', 'running', 'suspended', 'closed')),
    outcome text check (outcome in ('succeeded', 'failed', 'stopped')),
    stop_requested boolean not null default false,
    claim_agent_id text,
    claim_token_hash bytea,
    claim_expires_at timestamptz,
    attempt integer not null default 1,
    settled_token_hash bytea,
    settled_digest bytea,
    record_count bigint not null default 0,
    final_record_role text,
    final_seq bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    closed_at timestamptz,
    primary key (project_id, turn_number),
    unique (project_id, spawn_key),
    check ((state = 'running') = (claim_token_hash is not null)),
    check ((claim_token_hash is null) = (claim_agent_id is null)),
    check ((claim_token_hash is null) = (claim_expires_at is null)),
    check ((state = 'closed') = (outcome is not null)),
    check ((state = 'closed') = (closed_at is not null)),
    check ((final_record_role is null) = (final_seq is null))
) with (fillfactor = 80);
create index cg_turns_queued on cg_turns (project_id, target_agent_id, turn_number) where state = 'queued';
create index cg_turns_running on cg_turns (project_id, target_agent_id, claim_expires_at) where state = 'running';
create index cg_turns_leases on cg_turns (claim_expires_at) where state = 'running';
create index cg_turns_open on cg_turns (project_id, state, turn_number) where state <> 'closed';
create index cg_turns_closed on cg_turns (project_id, outcome, turn_number) where state = 'closed';
create index cg_turns_stopping on cg_turns (project_id, turn_number) where stop_requested;
create index cg_turns_by_agent on cg_turns (project_id, target_agent_id, turn_number);
create index cg_turns_by_kind on cg_turns (project_id, turn_kind, turn_number);
create index cg_turns_children on cg_turns (project_id, parent_number, turn_number) where parent_number is not null;

-- Semantic records with their content: one box with one card each. `payload` is json, not jsonb, since
-- numbers are kept as sent (difference 1). turn_seq counts from 1; row 0 is content without a record, the
-- final payload of a work-memory report.
create table cg_records (
    project_id text not null,
    turn_number bigint not null,
    turn_seq bigint not null check (turn_seq >= 0),
    record_id text not null,
    role text not null,
    box_id text not null,
    card_id text not null,
    metadata json not null,
    payload json not null,
    created_at timestamptz not null,
    primary key (project_id, turn_number, turn_seq)
);
create unique index cg_records_singletons on cg_records (project_id, turn_number)
    where role = 'provision_launch_started';

-- The ledger. Events are written without a number; whoever reads a feed first numbers what has been
-- committed by then, one reader at a time (lock cg_ledger_heads in a statement of its own, then number in
-- event_id order). So a number never becomes visible after a higher one, and writers never wait for
-- each other (difference 6). The indexes that feeds use hold numbered events only: writing costs two.
-- Scopes: `agent_id` is the agent's feed, `turn_number` the turn's, `parent_number` the parent's as well.
create table cg_ledger (
    project_id text not null,
    event_id bigint generated always as identity,
    ledger_seq bigint,
    event_type text not null,
    subject_kind text not null check (subject_kind in ('turn', 'agent')),
    subject_id text not null,
    actor_kind text not null check (actor_kind in ('agent', 'system')),
    actor_id text not null,
    cause_kind text,
    cause_id text,
    created_at timestamptz not null default now(),
    note text,
    annotations json not null,
    payload_box_id text,
    agent_id text not null,
    turn_number bigint,
    parent_number bigint,
    primary key (project_id, event_id)
);
create index cg_ledger_unnumbered on cg_ledger (project_id, event_id) where ledger_seq is null;
create unique index cg_ledger_project_feed on cg_ledger (project_id, ledger_seq) where ledger_seq is not null;
create index cg_ledger_agent_feed on cg_ledger (project_id, agent_id, ledger_seq) where ledger_seq is not null;
create index cg_ledger_turn_feed on cg_ledger (project_id, turn_number, ledger_seq)
    where ledger_seq is not null and turn_number is not null;
create index cg_ledger_parent_feed on cg_ledger (project_id, parent_number, ledger_seq)
    where ledger_seq is not null and parent_number is not null;

-- Answers to requests that carried an Idempotency-Key (difference 4), kept until the reaper removes them.
create table cg_idempotency_keys (
    project_id text not null,
    agent_id text not null,
    route text not null,
    key text not null,
    body_digest bytea not null,
    turn_number bigint not null,
    answer json,
    created_at timestamptz not null default now(),
    primary key (project_id, agent_id, route, key)
);
create index cg_idempotency_keys_by_age on cg_idempotency_keys (created_at);
