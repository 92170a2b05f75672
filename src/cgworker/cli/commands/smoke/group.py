"""`cg smoke`: try the way from one agent to another."""

from __future__ import annotations

import typer

from cgworker.cli.command import add_command, group
from cgworker.cli.commands.smoke.pair import pair

app: typer.Typer = group("Try the way from one agent to another.")
add_command(app, "pair", pair)
