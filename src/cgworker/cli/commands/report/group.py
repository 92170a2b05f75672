"""`cg report`: record work that was done elsewhere."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.report.work_memory import work_memory

app: Program = group("Record work that was done elsewhere.")
add_command(app, "work-memory", work_memory)
