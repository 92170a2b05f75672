"""`cg provision`: ask a provisioner for agents, and be one."""

from __future__ import annotations

from cgworker.cli.command import Program, RestOfLine, add_command, group
from cgworker.cli.commands.provision.serve import serve
from cgworker.cli.commands.provision.spawn import spawn

app: Program = group("Ask a provisioner for agents, or be one.")
add_command(app, "spawn", spawn)
add_command(app, "serve", serve, cls=RestOfLine)
