"""`cg setup`: prepare projects, and this machine to use them."""

from __future__ import annotations

from cgworker.cli.command import Program, group
from cgworker.cli.commands.setup.project import group as project

app: Program = group("Prepare projects, and this machine to use them.")
app.add_typer(project.app, name="project")
