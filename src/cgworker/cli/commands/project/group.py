"""`cg project`: what there is in a project, and what happened."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.project.agent import group as agent
from cgworker.cli.commands.project.feed import feed
from cgworker.cli.commands.project.offer import group as offer
from cgworker.cli.commands.project.turn import group as turn

app: Program = group("Show a project's agents, offers, turns and events.")
add_command(app, "feed", feed)
app.add_typer(agent.app, name="agent")
app.add_typer(offer.app, name="offer")
app.add_typer(turn.app, name="turn")
