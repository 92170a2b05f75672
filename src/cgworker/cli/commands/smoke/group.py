"""`cg smoke`: try the way from one agent to another."""

from __future__ import annotations

from cgworker.cli.command import add_command, group
from cgworker.cli.commands.smoke.pair import pair

app = group("Try the way from one agent to another.")
add_command(app, "pair", pair)
