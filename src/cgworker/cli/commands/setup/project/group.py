"""`cg setup project`: prepare a project, and this machine to use it."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.setup.project.client_config import client_config
from cgworker.cli.commands.setup.project.seed import seed_project
from cgworker.cli.commands.setup.project.status import show_status

app: Program = group("Prepare a project, look at its preparation, use it from here.")
add_command(app, "seed", seed_project)
add_command(app, "status", show_status)
add_command(app, "client-config", client_config)
