"""`cg project offer`: what a project's agents offer to do."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.project.offer.get import get_offer
from cgworker.cli.commands.project.offer.list import list_offers

app: Program = group("What a project's agents say they can do.")
add_command(app, "list", list_offers)
add_command(app, "get", get_offer)
