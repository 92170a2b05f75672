"""`cg profile`: profiles of this machine, and the agents behind them."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.profile.ensure_agent import ensure_agent

app: Program = group("Make profiles of this machine, and the agents behind them.")
add_command(app, "ensure-agent", ensure_agent)
