-- Schedules (difference 31): turns that the kernel dispatches at instants of a calendar, in the name of the agent
-- that put the schedule.
--
-- `next_at` is the next instant, and `due_at` when it is dispatched: at the instant or, with jitter, a little
-- later. A paused schedule, and one without a further instant, has no `due_at`. A regular interval counts from
-- `anchor_at`. `turn_order` holds the fields of a dispatch that say when and in which order it is claimed.
create table cg_schedules (
    project_id text not null,
    schedule_id text not null,
    requested_by_agent_id text not null,
    cron text not null,
    timezone text not null,
    anchor_at timestamptz not null,
    target_agent_id text not null,
    turn_kind text not null,
    input json not null,
    turn_order json not null,
    overlap text not null check (overlap in ('queue', 'skip')),
    catch_up text not null check (catch_up in ('last', 'none', 'all')),
    jitter_seconds float8 not null check (jitter_seconds >= 0),
    is_paused boolean not null default false,
    next_at timestamptz,
    due_at timestamptz check (due_at is null or (next_at is not null and not is_paused)),
    last_at timestamptz,
    last_turn_number bigint,
    created_at timestamptz not null default cg_now(),
    updated_at timestamptz not null default cg_now(),
    primary key (project_id, schedule_id)
);
create index cg_schedules_due on cg_schedules (due_at) where due_at is not null;

alter table cg_ledger
    drop constraint cg_ledger_subject_kind_check,
    add constraint cg_ledger_subject_kind_check check (subject_kind in ('turn', 'agent', 'schedule')) not valid;
