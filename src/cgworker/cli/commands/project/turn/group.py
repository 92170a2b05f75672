"""`cg project turn`: a project's turns."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.project.turn.lineage import lineage
from cgworker.cli.commands.project.turn.list import list_turns

app: Program = group("A project's turns.")
add_command(app, "list", list_turns)
add_command(app, "lineage", lineage)
