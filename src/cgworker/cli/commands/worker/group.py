"""`cg worker`: work an agent's turns."""

from __future__ import annotations

from cgworker.cli.command import Program, RestOfLine, add_command, group
from cgworker.cli.commands.worker.check import check
from cgworker.cli.commands.worker.claim import group as claim
from cgworker.cli.commands.worker.loop import loop
from cgworker.cli.commands.worker.once import once
from cgworker.cli.commands.worker.replay import replay
from cgworker.cli.commands.worker.run import run
from cgworker.cli.commands.worker.why import why

app: Program = group("Work an agent's turns.")
add_command(app, "once", once, cls=RestOfLine)
add_command(app, "loop", loop, cls=RestOfLine)
add_command(app, "run", run)
add_command(app, "why", why)
add_command(app, "check", check, cls=RestOfLine)
add_command(app, "replay", replay, cls=RestOfLine)
app.add_typer(claim.app, name="claim")
