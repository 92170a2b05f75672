"""`cg service`: a kernel, configured by its environment alone."""

from __future__ import annotations

from cgworker.cli.command import add_program, group
from cgworker.cli.commands.service.run import run

app = group("A kernel, configured by its environment alone.")
add_program(app, "run", run)
