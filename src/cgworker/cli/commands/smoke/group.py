"""`cg smoke`: try a turn from one agent to another."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.smoke.pair import pair

app: Program = group("Try a turn from one agent to another.")
add_command(app, "pair", pair)
