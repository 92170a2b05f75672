"""`cg local`: a kernel on this machine, from nothing."""

from __future__ import annotations

from cgworker.cli.command import Program, add_program, group
from cgworker.cli.commands.local.run import run

app: Program = group("A kernel with admission, on this machine, from nothing.")
add_program(app, "run", run)
