"""`cg report`: put work done elsewhere on record."""

from __future__ import annotations

from cgworker.cli.command import add_command, group
from cgworker.cli.commands.report.work_memory import work_memory

app = group("Put work done elsewhere on record.")
add_command(app, "work-memory", work_memory)
