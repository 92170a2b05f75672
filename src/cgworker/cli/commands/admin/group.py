"""`cg admin`: look after a project's database."""

from __future__ import annotations

import typer

from cgworker.cli.command import add_command, group
from cgworker.cli.commands.admin.purge import purge

app: typer.Typer = group("Look after a project's database.")
add_command(app, "purge", purge)
