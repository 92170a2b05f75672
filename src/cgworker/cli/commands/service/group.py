"""`cg service`: a kernel, configured by its environment alone."""

from __future__ import annotations

from cgworker.cli.command import Program, add_program, group
from cgworker.cli.commands.service.run import run

app: Program = group("A kernel, configured by its environment alone.")
add_program(app, "run", run)
