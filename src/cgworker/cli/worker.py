"""`cg worker`: work an agent's turns."""

from __future__ import annotations

import typer

from cgworker.cli import claim, claim_run, why, worker_check, worker_loop, worker_replay, worker_run
from cgworker.cli.command import RestOfLine, command, group

app: typer.Typer = group("Work an agent's turns.")
command(app, "once", cls=RestOfLine)(worker_loop.once)
command(app, "loop", cls=RestOfLine)(worker_loop.loop)
command(app, "run")(worker_run.run)
app.add_typer(claim.app, name="claim")
claim.app.add_typer(claim_run.app)
app.add_typer(why.app)
app.add_typer(worker_check.app)
app.add_typer(worker_replay.app)
