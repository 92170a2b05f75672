"""`cg worker`: work an agent's turns."""

from __future__ import annotations

import typer

from cgworker.cli.command import RestOfLine, command, group
from cgworker.cli.commands.worker import check, loop, replay, run, why
from cgworker.cli.commands.worker.claim import group as claim
from cgworker.cli.commands.worker.claim import run as claim_run

app: typer.Typer = group("Work an agent's turns.")
command(app, "once", cls=RestOfLine)(loop.once)
command(app, "loop", cls=RestOfLine)(loop.loop)
command(app, "run")(run.run)
app.add_typer(claim.app, name="claim")
claim.app.add_typer(claim_run.app)
app.add_typer(why.app)
app.add_typer(check.app)
app.add_typer(replay.app)
