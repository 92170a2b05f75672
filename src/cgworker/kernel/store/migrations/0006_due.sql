-- When the kernel itself acts on a turn (difference 30). A suspended turn is queued at `due_at`; a queued
-- one can be claimed from then on, so a claim passes over turns that have a `due_at`. The kernel's timer takes it
-- away when it has passed: a turn that waits for nothing has none, and claims find no turn that must still wait.
alter table cg_turns
    add due_at timestamptz,
    add constraint cg_turns_due_at check (due_at is null or state in ('queued', 'suspended')) not valid;
alter table cg_turns validate constraint cg_turns_due_at;
create index cg_turns_due on cg_turns (due_at) where due_at is not null and turn_number > 0;
