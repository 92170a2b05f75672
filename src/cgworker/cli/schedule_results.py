"""What the commands of `cg schedule` give, beside the schedules themselves."""

from __future__ import annotations

from attrs import frozen

from cgworker.wire.schedules import Schedule


@frozen(kw_only=True)
class Schedules:
    """The schedules of a project."""

    project_id: str
    items: tuple[Schedule, ...]


@frozen(kw_only=True)
class TriggeredTurn:
    """The turn that a schedule was told to dispatch now."""

    project_id: str
    turn_id: str
    schedule_id: str


@frozen(kw_only=True)
class DeletedSchedule:
    """A schedule that is no more."""

    project_id: str
    schedule_id: str
