"""`cg project agent`: a project's agents."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.project.agent.list import list_agents

app: Program = group("A project's agents.")
add_command(app, "list", list_agents)
