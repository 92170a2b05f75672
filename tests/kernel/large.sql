-- A project that has seen much: 200,000 turns of 20,000 agents and 1,000,000 events; a hundredth is open.
-- Beside it a thousand small projects, so that no index is good merely because all is in one project.

insert into cg_projects (project_id, turn_count)
select 'big', 200000
union all
select 'small-' || n, 10 from generate_series(1, 1000) n;

insert into cg_ledger_heads (project_id, ledger_seq)
select 'big', 1000000;

insert into cg_agents (project_id, agent_id, role, enabled, accepts_work, capacity, held_count, capabilities,
    grants, public_metadata, has_offers)
select 'big', 'agent-' || n, 'role-' || n % 20, true, true, 5, 0,
    array['turn.conversation.v1', 'kind-' || n], '{}',
    case when n % 1000 = 0
        then '{"turn_offers":[{"turn_kind":"turn.conversation.v1","calling":{},"input_contract":{}}]}'
        else '{}'
    end::json,
    n % 100 = 0
from generate_series(1, 20000) n;

insert into cg_credentials (credential_id, project_id, agent_id, secret_hash, status)
select 'cred-' || n, 'big', 'agent-' || n % 20000 + 1, '\x00', 'active'
from generate_series(1, 20000) n;

insert into cg_spawns (project_id, spawn_key)
select 'big', 'key-' || n from generate_series(1, 200000) n;

insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind, cause_kind,
    cause_id, parent_number, spawn_key, state, outcome, stop_requested, claim_agent_id, claim_token_hash,
    claim_expires_at, record_count, created_at, updated_at, closed_at)
select 'big', n, 'agent-' || n % 20000 + 1, 'agent-1', 'kind-' || n % 50,
    case when n % 4 = 0 then 'turn' else 'external_request' end, 'cause-' || n,
    case when n % 4 = 0 then n / 100 + 1 end, 'key-' || n, s.state,
    case when s.state = 'closed' then (array['succeeded', 'failed', 'stopped'])[n % 3 + 1] end, n % 1000 = 0,
    case when s.state = 'running' then 'agent-' || n % 20000 + 1 end,
    case when s.state = 'running' then sha256(n::text::bytea) end,
    case when s.state = 'running' then now() + n * interval '1 second' - interval '100 seconds' end,
    2, now(), now(), case when s.state = 'closed' then now() end
from generate_series(1, 200000) n
cross join lateral (
    select coalesce((array['queued', 'running', 'suspended'])[n % 300 + 1], 'closed') as state
) s;

insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
    metadata, payload, created_at)
select 'big', n, seq, 'record-' || n || '-' || seq, 'progress', 'box-' || n || '-' || seq, 'card',
    '{}', '{}', now()
from generate_series(1, 200000) n
cross join generate_series(1, 2) seq;

insert into cg_ledger (project_id, ledger_seq, event_type, subject_kind, subject_id, actor_kind, actor_id,
    annotations, agent_id, turn_number, parent_number)
select 'big', n, 'turn.claimed', 'turn', 'T-' || n / 5 + 1, 'agent', 'agent-1', '{}',
    'agent-' || n % 20000 + 1, n / 5 + 1, case when n % 20 = 0 then n / 500 + 1 end
from generate_series(1, 1000000) n;

insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number)
select 'big', 'agent-' || n % 20000 + 1, 'claims:claim', 'key-' || n, '\x00', n
from generate_series(1, 20000) n;

insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind, cause_kind,
    cause_id, spawn_key, state, record_count, created_at, updated_at)
select 'small-' || p, n, 'agent-1', 'agent-1', 'kind-1', 'external_request', 'c', 'key-' || n, 'queued', 1,
    now(), now()
from generate_series(1, 1000) p
cross join generate_series(1, 10) n;

