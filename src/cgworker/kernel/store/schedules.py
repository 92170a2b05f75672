"""Keep schedules: put, read, pause and delete them (difference 31). What they dispatch is in `ticks.py`."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError, FencingError, InvalidRequest, NotFoundError
from cgworker.kernel.store.claims.fence import retry_later
from cgworker.kernel.store.ids import turn_ref
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.timetable import Timetable
from cgworker.kernel.store.turns import raw_json
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads
from cgworker.wire.refs import AgentRef
from cgworker.wire.schedules import TURN_ORDER, PutSchedule, Schedule, SchedulePage, check_schedule_id
from cgworker.wire.values import Fault

_MAX_PAGE = 500


@frozen
class ScheduleKey:
    """Which schedule, and who asks for it.

    Attributes:
        project_id: the project.
        schedule_id: its name there.
        actor: the agent that asks.
        may_change_any: whether that agent may change schedules of others.
    """

    project_id: str
    schedule_id: str
    actor: AgentRef
    may_change_any: bool

    def check(self, row: Row | None) -> Row:
        """Return the schedule's row.

        Raises:
            NotFoundError: there is no such schedule.
            FencingError: it is another agent's.
        """
        if row is None:
            raise NotFoundError(f"schedule not found: {self.schedule_id}")
        if row["requested_by_agent_id"] != self.actor.agent_id and not self.may_change_any:
            raise FencingError(f"requested_by is not authorized to change schedule {self.schedule_id}")
        return row


# ---------------------------------------------------------------- reading


GET_SCHEDULE = "select * from cg_schedules where project_id = $1 and schedule_id = $2"

LIST_SCHEDULES = """
select * from cg_schedules where project_id = $1 and schedule_id > $2 order by schedule_id limit $3
"""


async def get_schedule(database: Database, project_id: str, schedule_id: str) -> Schedule:
    """Return a schedule as it stands.

    Raises:
        NotFoundError: there is no such schedule.
    """
    row = await database.fetchrow(GET_SCHEDULE, project_id, schedule_id)
    if row is None:
        raise NotFoundError(f"schedule not found: {schedule_id}")
    return schedule_of(row)


async def list_schedules(database: Database, project_id: str, *, after: str, limit: int) -> SchedulePage:
    """Return the schedules of a project after an id, ordered by id."""
    limit = min(limit, _MAX_PAGE)
    rows = await database.fetch(LIST_SCHEDULES, project_id, after, limit)
    has_more = len(rows) == limit and limit > 0
    return SchedulePage(
        items=tuple(map(schedule_of, rows)), next_after=rows[-1]["schedule_id"] if has_more else None
    )


def schedule_of(row: Row) -> Schedule:
    """Convert a row of cg_schedules."""
    project_id, number = row["project_id"], row["last_turn_number"]
    return Schedule(
        schedule_id=row["schedule_id"],
        requested_by=AgentRef(project_id=project_id, agent_id=row["requested_by_agent_id"]),
        cron=row["cron"],
        timezone=row["timezone"],
        target_agent=AgentRef(project_id=project_id, agent_id=row["target_agent_id"]),
        turn_kind=row["turn_kind"],
        input=raw_json(row["input"]),
        overlap=row["overlap"],
        catch_up=row["catch_up"],
        jitter_seconds=row["jitter_seconds"],
        **loads(row["turn_order"]),
        paused=row["is_paused"],
        next_at=None if row["is_paused"] else row["next_at"],
        last_at=row["last_at"],
        last_turn=None if number is None else turn_ref(project_id, number),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


# ---------------------------------------------------------------- putting


LOCK_SCHEDULE = "select * from cg_schedules where project_id = $1 and schedule_id = $2 for no key update"

NOW = "select cg_now()"

FIND_CAPABILITIES = "select capabilities from cg_agents where project_id = $1 and agent_id = $2"

# Changes the row that LOCK_SCHEDULE has found, or makes one; one that another has made just now stays.
PUT_SCHEDULE = """
insert into cg_schedules (project_id, schedule_id, requested_by_agent_id, cron, timezone, anchor_at,
    target_agent_id, turn_kind, input, turn_order, overlap, catch_up, jitter_seconds, is_paused, next_at,
    due_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9::json, $10::json, $11, $12, $13, $14, $15, $16)
on conflict (project_id, schedule_id) do update
set requested_by_agent_id = $3, cron = $4, timezone = $5, anchor_at = $6, target_agent_id = $7,
    turn_kind = $8, input = $9::json, turn_order = $10::json, overlap = $11, catch_up = $12,
    jitter_seconds = $13, is_paused = $14, next_at = $15, due_at = $16, updated_at = cg_now()
where $17
returning *
"""


async def put_schedule(database: Database, key: ScheduleKey, body: PutSchedule) -> Schedule:
    """Make a schedule or change it; its next instant stays unless its calendar changes.

    Raises:
        InvalidRequest: the id, the cron expression or the time zone cannot be used.
        NotFoundError: there is no such target agent.
        ConflictError: the target does not have the capability for the kind.
        FencingError: the schedule is another agent's.
    """
    _check_id(key.schedule_id)

    async def put(connection: Connection) -> Row:
        now = (await connection.fetchval(NOW)).replace(microsecond=0)
        Timetable(body.cron, body.timezone, now).check()
        await _check_target(connection, body)
        found = await connection.fetchrow(LOCK_SCHEDULE, key.project_id, key.schedule_id)
        if found is not None:
            key.check(found)
        is_same = found is not None and (found["cron"], found["timezone"]) == (body.cron, body.timezone)
        anchor = found["anchor_at"] if found and is_same else now
        next_at = found["next_at"] if found and is_same else _following(body, anchor, now)
        is_paused = found["is_paused"] if found else False
        row = await connection.fetchrow(
            PUT_SCHEDULE,
            key.project_id,
            key.schedule_id,
            body.requested_by.agent_id,
            body.cron,
            body.timezone,
            anchor,
            body.target_agent.agent_id,
            body.turn_kind,
            dumps(body.input).decode(),
            dumps({name: value for name, value in _order_of(body).items() if value is not ABSENT}).decode(),
            body.overlap,
            body.catch_up,
            body.jitter_seconds,
            is_paused,
            next_at,
            None if is_paused else due_at(key.schedule_id, next_at, body.jitter_seconds),
            found is not None,
        )
        if row is None:
            raise retry_later("schedule")
        return row

    return schedule_of(await database.transact(put))


def _order_of(body: PutSchedule) -> dict[str, Any]:
    return {name: getattr(body, name) for name in TURN_ORDER}


def _following(body: PutSchedule, anchor: datetime, now: datetime) -> datetime | None:
    return Timetable(body.cron, body.timezone, anchor).following(now)


def due_at(schedule_id: str, instant: datetime | None, jitter_seconds: float) -> datetime | None:
    """Return when an instant is dispatched: with jitter later, by the same time at every kernel."""
    if instant is None or not jitter_seconds:
        return instant
    drawn = hashlib.sha256(f"{schedule_id}:{instant.isoformat()}".encode()).digest()
    return instant + timedelta(seconds=jitter_seconds * int.from_bytes(drawn[:6], "big") / 2**48)


def _check_id(schedule_id: str) -> None:
    try:
        check_schedule_id(schedule_id)
    except Fault as unfit:
        msg = f"Value error, {unfit.msg}"
        raise InvalidRequest([{"type": unfit.type, "loc": ["path", "schedule_id"], "msg": msg}]) from None


async def _check_target(connection: Connection, body: PutSchedule) -> None:
    target = body.target_agent
    capabilities = await connection.fetchval(FIND_CAPABILITIES, target.project_id, target.agent_id)
    if capabilities is None:
        raise NotFoundError(f"agent not found: {target.agent_id}")
    if body.turn_kind.startswith("turn.") and body.turn_kind not in capabilities:
        raise ConflictError(
            f"target agent {target.agent_id} missing required capability for turn_kind {body.turn_kind}"
        )


# ---------------------------------------------------------------- pausing, deleting


PAUSE_SCHEDULE = """
update cg_schedules
set is_paused = $3, next_at = $4, due_at = $5, updated_at = cg_now()
where project_id = $1 and schedule_id = $2
returning *
"""


async def pause_schedule(database: Database, key: ScheduleKey, *, is_paused: bool) -> Schedule:
    """Pause a schedule, or let it go on from now; what it would have done meanwhile is not made up for.

    Raises:
        NotFoundError, FencingError: as `ScheduleKey.check`.
        InvalidRequest: it is to go on, and its time zone is unknown on this machine.
    """

    async def pause(connection: Connection) -> Row:
        row = key.check(await connection.fetchrow(LOCK_SCHEDULE, key.project_id, key.schedule_id))
        if row["is_paused"] == is_paused:
            return row
        next_at = row["next_at"]
        if not is_paused:
            now = await connection.fetchval(NOW)
            table = Timetable(row["cron"], row["timezone"], row["anchor_at"])
            table.check_timezone()
            next_at = table.following(now)
        due = None if is_paused else due_at(key.schedule_id, next_at, row["jitter_seconds"])
        changed = await connection.fetchrow(
            PAUSE_SCHEDULE, key.project_id, key.schedule_id, is_paused, next_at, due
        )
        assert changed is not None
        return changed

    return schedule_of(await database.transact(pause))


DELETE_SCHEDULE = "delete from cg_schedules where project_id = $1 and schedule_id = $2"


async def delete_schedule(database: Database, key: ScheduleKey) -> None:
    """Delete a schedule; the turns that it has dispatched stay.

    Raises:
        NotFoundError, FencingError: as `ScheduleKey.check`.
    """

    async def delete(connection: Connection) -> None:
        key.check(await connection.fetchrow(LOCK_SCHEDULE, key.project_id, key.schedule_id))
        await connection.execute(DELETE_SCHEDULE, key.project_id, key.schedule_id)

    await database.transact(delete)
