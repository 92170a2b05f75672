"""`cg admission`: invite agents, and serve the API that admits them."""

from __future__ import annotations

from cgworker.cli.command import Program, add_program, group
from cgworker.cli.commands.admission.invite import group as invite
from cgworker.cli.commands.admission.run import run

app: Program = group("Invite agents, and serve the API that admits them.")
add_program(app, "run", run)
app.add_typer(invite.app, name="invite")
