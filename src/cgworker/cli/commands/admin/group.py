"""`cg admin`: look after a project's database."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.admin.export import export
from cgworker.cli.commands.admin.forget import forget
from cgworker.cli.commands.admin.import_ import import_
from cgworker.cli.commands.admin.purge import purge
from cgworker.cli.commands.admin.reopen import reopen

app: Program = group("Look after a project's database, or move the project to another one.")
add_command(app, "purge", purge)
add_command(app, "export", export)
add_command(app, "import", import_)
add_command(app, "reopen", reopen)
add_command(app, "forget", forget)
