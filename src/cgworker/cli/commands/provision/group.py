"""`cg provision`: ask a provisioner for agents."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.provision.spawn import spawn

app: Program = group("Ask a provisioner for agents.")
add_command(app, "spawn", spawn)
