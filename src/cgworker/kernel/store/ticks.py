"""What schedules dispatch when they are due (difference 31).

The due schedules of a project are one transaction: locked, dispatched, moved on to their next instants, and
logged. Several kernels may do it at once, since they skip locked schedules; and a kernel that ends in the
middle leaves nothing behind. In addition, the dispatch key of each instant keeps it from getting two turns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from attrs import define, field, frozen

from cgworker.errors import ConflictError, InvalidRequest
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.batch import columns
from cgworker.kernel.store.claims.dispatch import dispatch_on_behalf
from cgworker.kernel.store.ids import turn_id, turn_ref
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.schedules import LOCK_SCHEDULE, NOW, ScheduleKey, due_at
from cgworker.kernel.store.timetable import Timetable
from cgworker.kernel.store.turns import raw_json
from cgworker.wire.converter import loads
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import Dispatch, RootRequest

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_MAX_CAUGHT_UP = 100
_TRANSACTIONS = 25  # as many schedules are listed at once as so many transactions can take
_LATE = timedelta(seconds=60)  # an instant that is later counts as missed
_PUT_OFF = timedelta(seconds=60)  # when a schedule is tried again whose instants are unknown on this machine

# Schedules of all projects, the longest due first, by project. Only this list goes across projects.
LIST_DUE_SCHEDULES = """
select project_id, array_agg(schedule_id) as schedule_ids
from (
    select project_id, schedule_id
    from cg_schedules
    where due_at <= cg_now()
        and project_id <> all (array(select project_id from cg_moves where closed_at is not null))
    order by due_at
    limit $1
) due
group by project_id
order by project_id
"""

LOCK_DUE_SCHEDULES = """
select s.*, cg_now() as now, t.state <> 'closed' as is_last_open
from cg_schedules s
left join lateral (
    select state from cg_turns where project_id = s.project_id and turn_number = s.last_turn_number limit 1
) t on true
where s.project_id = $1 and s.schedule_id = any ($2) and s.due_at <= cg_now()
order by s.due_at
for no key update of s skip locked
"""

FIND_SPAWNED_TURNS = """
select spawn_key, turn_number
from cg_turns
where project_id = $1 and spawn_key = any ($2) and turn_number > 0
"""

MOVE_SCHEDULES_ON = """
update cg_schedules s
set next_at = m.next_at, due_at = m.due_at,
    last_at = coalesce(m.last_at, s.last_at),
    last_turn_number = coalesce(m.last_turn_number, s.last_turn_number)
from unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
    as m (schedule_id, next_at, due_at, last_at, last_turn_number)
where s.project_id = $1 and s.schedule_id = any ($2) and s.schedule_id = m.schedule_id
"""

LOG_SCHEDULES = """
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id, annotations,
    agent_id)
select $1, e.event_type, 'schedule', e.schedule_id, e.actor_kind, e.actor_id, e.annotations::json, e.agent_id
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) with ordinality
    as e (event_type, schedule_id, actor_kind, actor_id, annotations, agent_id, place)
order by e.place
"""


@frozen
class Tick:
    """An instant of a schedule that has been dealt with.

    Attributes:
        turn: the turn dispatched for it; None if it was skipped.
        target: the agent that the turn is for.
        requested_by: the agent on whose behalf.
    """

    turn: TurnRef | None
    target: AgentRef
    requested_by: AgentRef


@define(eq=False)
class _Instant:
    """An instant under way: what becomes of it."""

    row: Row
    at: datetime
    key: str
    why: str | None = None
    number: int | None = None
    more: dict[str, Any] = field(factory=dict)

    @property
    def project_id(self) -> str:
        return str(self.row["project_id"])


# ---------------------------------------------------------------- what is due


async def tick_schedules(database: Database, max_count: int, *, lease: timedelta) -> tuple[list[Tick], bool]:
    """Dispatch what schedules are due for, project by project.

    Args:
        database: the kernel's database.
        max_count: how many schedules one transaction takes.
        lease: the length of a lease.

    Returns:
        What became of each instant, and whether more schedules may be due.
    """
    listed_count = max_count * _TRANSACTIONS
    due = await database.fetch(LIST_DUE_SCHEDULES, listed_count)
    ticks = []
    for row in due:
        project_id, ids = row["project_id"], row["schedule_ids"]
        for start in range(0, len(ids), max_count):
            ticks += await _tick_project(database, project_id, ids[start : start + max_count], lease)
    return ticks, bool(ticks) and sum(len(row["schedule_ids"]) for row in due) == listed_count


async def _tick_project(
    database: Database, project_id: str, schedule_ids: list[str], lease: timedelta
) -> list[Tick]:
    async def tick(connection: Connection) -> list[Tick]:
        rows = await connection.fetch(LOCK_DUE_SCHEDULES, project_id, schedule_ids)
        plans = [_plan(row) for row in rows]
        instants = [instant for plan in plans for instant in plan.instants]
        await _dispatch(connection, project_id, instants, lease)
        await _move_on(connection, project_id, plans)
        await _log(connection, project_id, instants)
        return [_tick_of(instant) for instant in instants]

    return await database.transact(tick)


@frozen
class _Plan:
    """What becomes of a schedule: its instants that are due, its next one, and when that is due."""

    row: Row
    instants: list[_Instant]
    next_at: datetime | None
    due_at: datetime | None


def _plan(row: Row) -> _Plan:
    """Return the due instants of a schedule, those to skip with the reason, and its next instant.

    A schedule whose time zone this machine lacks keeps no other waiting; a kernel elsewhere may know it.
    """
    table = Timetable(row["cron"], row["timezone"], row["anchor_at"])
    now = row["now"]
    try:
        table.check_timezone()
    except InvalidRequest as unusable:
        name = f"{row['project_id']}/{row['schedule_id']}"
        logger.warning("the schedule %s waits: %s (%s)", name, unusable, row["timezone"])
        return _Plan(row, [], row["next_at"], now + _PUT_OFF)
    passed = table.until(row["next_at"], now, _MAX_CAUGHT_UP)
    due = list(takewhile(lambda at: _due_at(row, at) <= now, passed))
    instants = [_instant(row, at) for at in due]
    for instant in instants:
        if _is_missed(row, instant, is_last=instant is instants[-1]):
            instant.why = "catch_up"
    if row["overlap"] == "skip":
        is_open = row["is_last_open"]
        for instant in instants:
            if instant.why is None and is_open:
                instant.why = "overlap"
            is_open = is_open or instant.why is None
    if due and due[0] > row["next_at"]:  # more than are looked at one by one
        first = _instant(row, row["next_at"])
        first.why, first.more = "catch_up", {"until": _written(due[0])}
        instants.insert(0, first)
    next_at = table.following(due[-1] if due else now)
    return _Plan(row, instants, next_at, due_at(row["schedule_id"], next_at, row["jitter_seconds"]))


def _is_missed(row: Row, instant: _Instant, *, is_last: bool) -> bool:
    """Whether a due instant is not made up for."""
    if row["catch_up"] == "none":
        return bool(row["now"] - _due_at(row, instant.at) > _LATE)
    return row["catch_up"] == "last" and not is_last


def _instant(row: Row, at: datetime) -> _Instant:
    return _Instant(row, at, f"schedule:{row['schedule_id']}:{_written(at)}")


def _due_at(row: Row, at: datetime) -> datetime:
    found = due_at(row["schedule_id"], at, row["jitter_seconds"])
    assert found is not None
    return found


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# ---------------------------------------------------------------- the turns


async def _dispatch(
    connection: Connection, project_id: str, instants: Sequence[_Instant], lease: timedelta
) -> None:
    """Dispatch the instants of a project that are not skipped."""
    wanted = [each for each in instants if each.why is None]
    if not wanted:
        return
    numbers = await dispatch_on_behalf(
        connection, project_id, [_request_of(each) for each in wanted], lease=lease
    )
    for place, instant in enumerate(wanted, 1):
        instant.number = numbers.get(place)
    missing = {each.key: each for each in wanted if each.number is None}
    if not missing:
        return
    for found in await connection.fetch(FIND_SPAWNED_TURNS, project_id, list(missing)):
        missing.pop(found["spawn_key"]).number = found["turn_number"]
    for instant in missing.values():
        instant.why = "refused"


def _request_of(instant: _Instant) -> Dispatch:
    row = instant.row
    return Dispatch(
        requested_by=AgentRef(project_id=instant.project_id, agent_id=row["requested_by_agent_id"]),
        target_agent=AgentRef(project_id=instant.project_id, agent_id=row["target_agent_id"]),
        input=raw_json(row["input"]),
        turn_kind=row["turn_kind"],
        dispatch_key=instant.key,
        authority=RootRequest(request_id=instant.key),
        meta=Meta(annotations={"schedule": {"id": row["schedule_id"], "instant": _written(instant.at)}}),
        **loads(row["turn_order"]),
    )


# ---------------------------------------------------------------- what is noted


async def _move_on(connection: Connection, project_id: str, plans: Sequence[_Plan]) -> None:
    moved = []
    for plan in plans:
        last = next((each for each in reversed(plan.instants) if each.number is not None), None)
        last_at, last_number = (last.at, last.number) if last else (None, None)
        moved.append((plan.row["schedule_id"], plan.next_at, plan.due_at, last_at, last_number))
    if moved:
        await connection.execute(MOVE_SCHEDULES_ON, project_id, *columns(moved))


async def _log(
    connection: Connection, project_id: str, instants: Sequence[_Instant], actor: AgentRef | None = None
) -> None:
    events = [_event_of(each, actor) for each in instants]
    if events:
        await connection.execute(LOG_SCHEDULES, project_id, *columns(events))


def _event_of(instant: _Instant, actor: AgentRef | None) -> tuple[Any, ...]:
    facts = {"instant": _written(instant.at), "dispatch_key": instant.key, **instant.more}
    if instant.why is None and instant.number is not None:
        name, facts = "schedule.ticked", {**facts, "turn_id": turn_id(instant.number)}
    else:
        name, facts = "schedule.skipped", {**facts, "why": instant.why}
    row = instant.row
    return (
        name,
        row["schedule_id"],
        "system" if actor is None else "agent",
        "system" if actor is None else actor.agent_id,
        annotate(**facts),
        row["requested_by_agent_id"],
    )


def _tick_of(instant: _Instant) -> Tick:
    row, project_id = instant.row, instant.project_id
    return Tick(
        turn=None if instant.number is None else turn_ref(project_id, instant.number),
        target=AgentRef(project_id=project_id, agent_id=row["target_agent_id"]),
        requested_by=AgentRef(project_id=project_id, agent_id=row["requested_by_agent_id"]),
    )


# ---------------------------------------------------------------- by hand


async def trigger_schedule(
    database: Database, key: ScheduleKey, *, trigger_key: str | None, lease: timedelta
) -> Tick:
    """Dispatch a schedule's turn now, whatever its calendar says and also while it is paused.

    Raises:
        NotFoundError, FencingError: as `ScheduleKey.check`.
        ConflictError: its agents no longer allow the dispatch.
    """

    async def trigger(connection: Connection) -> Tick:
        row = key.check(await connection.fetchrow(LOCK_SCHEDULE, key.project_id, key.schedule_id))
        now = await connection.fetchval(NOW)
        name = f"schedule:{key.schedule_id}:trigger:{trigger_key or _written(now)}"
        instant = _Instant(row, now, name, more={"trigger": True})
        found = await connection.fetchrow(FIND_SPAWNED_TURNS, key.project_id, [name])
        if found is not None:
            instant.number = found["turn_number"]
            return _tick_of(instant)
        await _dispatch(connection, key.project_id, [instant], lease)
        if instant.number is None:
            raise ConflictError(
                f"schedule {key.schedule_id} cannot dispatch: {row['requested_by_agent_id']} is disabled, or "
                f"{row['target_agent_id']} does not take {row['turn_kind']}"
            )
        await connection.execute(NOTE_LAST_TURN, key.project_id, key.schedule_id, now, instant.number)
        await _log(connection, key.project_id, [instant], key.actor)
        return _tick_of(instant)

    return await database.transact(trigger)


NOTE_LAST_TURN = """
update cg_schedules set last_at = $3, last_turn_number = $4 where project_id = $1 and schedule_id = $2
"""
