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
"""What becomes of an instant while the schedule's last turn is open: dispatched as any other, or skipped."""

CatchUp = Literal["last", "none", "all"]
"""Which of the instants that no kernel was alive for are dispatched later; of all, the last 100."""

_SCHEDULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")


TURN_ORDER = ("delay_seconds", "priority", "serial_key", "fairness_key")
"""The fields of a schedule that say when and in which order each of its turns is claimed."""


@frozen(kw_only=True)
class ScheduleSpec:
    """When a schedule dispatches, and what.

    Attributes:
        cron: five fields as of cron (minute, hour, day of the month, month, day of the week), or
            `@every 15m` with a number of `s`, `m`, `h` or `d`.
        timezone: the time zone of the five fields, by its IANA name.
        target_agent: the agent that the turns are for.
        turn_kind: their kind.
        input: their input.
        overlap: whether an instant is skipped while the last turn is open.
        catch_up: which missed instants are made up for.
        jitter_seconds: each turn is dispatched up to so many seconds after its instant.
        delay_seconds, priority, serial_key, fairness_key: those of each turn, as in `Dispatch`.
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
    """Make a schedule, or change one; it dispatches in the name of `requested_by`."""

    requested_by: AgentRef


@frozen(kw_only=True)
class ChangeSchedule:
    """Pause a schedule, or let it go on."""

    requested_by: AgentRef


@frozen(kw_only=True)
class TriggerSchedule:
    """Dispatch a schedule's turn now, also while it is paused; a repeat with the same key does nothing."""

    requested_by: AgentRef
    key: Anchor | None = None


@frozen(kw_only=True)
class Schedule(ScheduleSpec):
    """A schedule as it stands.

    Attributes:
        schedule_id: its name in the project.
        requested_by: the agent in whose name it dispatches.
        paused: whether it dispatches nothing until it is unpaused.
        next_at: its next instant; None while it is paused, or if there is none.
        last_at: the last instant for which a turn was dispatched.
        last_turn: that turn.
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
    """Raise Fault unless a new schedule may have this id."""
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
