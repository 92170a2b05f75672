"""Schedules: turns that the kernel dispatches at instants of a calendar (difference 31)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

from attrs import frozen

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.converter import REQUESTS
from cgworker.wire.order import OrderKey, Priority
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Anchor, Delay
from cgworker.wire.values import Fault, read_str

Overlap = Literal["queue", "skip"]
"""How an instant is treated while the schedule's last turn is open: it is dispatched, or skipped."""

CatchUp = Literal["last", "none", "all"]
"""Which instants are dispatched later that came while no kernel was running; "all" means the last 100."""

_SCHEDULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")


TURN_ORDER = ("delay_seconds", "priority", "serial_key", "fairness_key")
"""The fields of a schedule that decide when and in which order its turns are claimed."""


@frozen(kw_only=True)
class ScheduleSpec:
    """The instants of a schedule, and the turn that it dispatches.

    Attributes:
        cron: five fields as in cron (minute, hour, day of the month, month, day of the week), or
            `@every 15m` with a number of `s`, `m`, `h` or `d`.
        timezone: the time zone of the five fields, by its IANA name.
        target_agent: the agent that gets the turns.
        turn_kind: the kind of the turns.
        input: the input of the turns.
        overlap: "skip" skips an instant while the last turn is open.
        catch_up: which missed instants are dispatched later.
        jitter_seconds: the longest random delay of a turn after its instant.
        delay_seconds: the delay of each turn, as in `Dispatch`.
        priority: the priority of each turn, as in `Dispatch`.
        serial_key: the serial key of each turn, as in `Dispatch`.
        fairness_key: the fairness key of each turn, as in `Dispatch`.
    """

    cron: str
    timezone: str = "UTC"
    target_agent: AgentRef
    turn_kind: str = CONVERSATION_KIND
    input: Any
    overlap: Overlap = "queue"
    catch_up: CatchUp = "last"
    jitter_seconds: Delay = 0.0
    delay_seconds: Delay | Absent = ABSENT
    priority: Priority | Absent = ABSENT
    serial_key: OrderKey | Absent = ABSENT
    fairness_key: OrderKey | Absent = ABSENT


@frozen(kw_only=True)
class PutSchedule(ScheduleSpec):
    """Create or change a schedule. It dispatches in the name of `requested_by`."""

    requested_by: AgentRef


@frozen(kw_only=True)
class ChangeSchedule:
    """Pause or unpause a schedule; the route tells which."""

    requested_by: AgentRef


@frozen(kw_only=True)
class TriggerSchedule:
    """Dispatch a schedule's turn now, even while it is paused. Repeating the key has no effect."""

    requested_by: AgentRef
    key: Anchor | None = None


@frozen(kw_only=True)
class Schedule(ScheduleSpec):
    """The current state of a schedule.

    Attributes:
        schedule_id: the schedule's name in the project.
        requested_by: the agent in whose name it dispatches.
        paused: true if it dispatches nothing until it is unpaused.
        next_at: the next instant; None while it is paused, or if there is none.
        last_at: the last instant for which a turn was dispatched.
        last_turn: the turn of that instant.
        created_at: when it was made.
        updated_at: when it was last put, paused or unpaused.
    """

    schedule_id: str
    requested_by: AgentRef
    paused: bool
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_turn: TurnRef | None = None
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class SchedulePage:
    """Schedules of a project, ordered by id; `next_after` continues a list that has more."""

    items: tuple[Schedule, ...]
    next_after: str | None = None


def check_schedule_id(schedule_id: str) -> None:
    """Check the id of a new schedule.

    Args:
        schedule_id: the id.

    Raises:
        Fault: the sender's fault: the id is too long, or has other characters than allowed.
    """
    if not _SCHEDULE_ID.match(schedule_id):
        raise Fault(
            "value_error",
            "schedule_id must have 1 to 80 letters, digits, '.', '_' and '-', the first a letter or digit",
        )


def _reads_word(*words: str) -> Any:
    def read(value: Any, _: Any) -> str:
        if value not in words:
            raise Fault("enum", f"Input should be {' or '.join(map(repr, words))}")
        return read_str(value, str)

    return read


REQUESTS.register_structure_hook_func(lambda cls: cls == Overlap, _reads_word("queue", "skip"))
REQUESTS.register_structure_hook_func(lambda cls: cls == CatchUp, _reads_word("last", "none", "all"))
