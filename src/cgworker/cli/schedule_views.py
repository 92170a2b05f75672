"""What a person sees of schedules on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from cgworker.cli.picture import picture
from cgworker.cli.rendering import local_time, panel, table
from cgworker.cli.schedule_results import Schedules
from cgworker.wire.schedules import Schedule


@picture.register
def _(schedules: Schedules) -> RenderableType:
    if not schedules.items:
        return Text("no schedules", style="dim")
    return table(
        schedules.items,
        schedule=lambda s: s.schedule_id,
        when=lambda s: s.cron,
        zone=lambda s: s.timezone,
        agent=lambda s: s.target_agent.agent_id,
        next=lambda s: "paused" if s.paused else local_time(s.next_at),
        last=lambda s: "" if s.last_turn is None else f"{s.last_turn.turn_id}, {local_time(s.last_at)}",
    )


@picture.register
def _(schedule: Schedule) -> RenderableType:
    return panel(picture.dispatch(object)(schedule), schedule.schedule_id)
