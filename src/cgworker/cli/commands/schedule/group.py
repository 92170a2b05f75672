"""`cg schedule`: list, set, show, pause, unpause, trigger and delete schedules."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.schedule.delete import delete
from cgworker.cli.commands.schedule.list import list_all
from cgworker.cli.commands.schedule.pause import pause
from cgworker.cli.commands.schedule.set import put
from cgworker.cli.commands.schedule.show import show
from cgworker.cli.commands.schedule.trigger import trigger
from cgworker.cli.commands.schedule.unpause import unpause

app: Program = group(
    "Have turns dispatched by a calendar: set, list, show, pause, trigger and delete schedules."
)
add_command(app, "list", list_all)
add_command(app, "set", put)
add_command(app, "show", show)
add_command(app, "pause", pause)
add_command(app, "unpause", unpause)
add_command(app, "trigger", trigger)
add_command(app, "delete", delete)
