"""`cg admin`: look after a project's database."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.admin.purge import purge

app: Program = group("Look after a project's database.")
add_command(app, "purge", purge)
