-- replaces: 0007_order.sql
--
-- What the order of claims goes by (differences 28 and 29); see 0010_turn_order.sql.
--
-- `not_before` and `delay_seconds` are what the dispatch asked for; with a delay, `not_before` is its end.
-- `fairness_key` is empty for turns without one, which count as one key.
--
-- No row is written: constant defaults are kept beside the table. Turns that were queued before, and those that a
-- kernel of 0.2 dispatches meanwhile, have the `fair_number` 0: they come first, in the order of their numbers.
alter table cg_turns
    add not_before timestamptz,
    add delay_seconds float8,
    add priority smallint not null default 0,
    add serial_key text,
    add fairness_key text not null default '',
    add fair_number bigint not null default 0,
    add waits_for_key boolean not null default false,
    add constraint cg_turns_priority_check check (priority between -100 and 100) not valid;
