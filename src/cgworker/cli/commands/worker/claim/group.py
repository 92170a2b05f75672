"""`cg worker claim`: work a turn by hand, one step at a time."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.worker.claim.append import append
from cgworker.cli.commands.worker.claim.dispatch_child import dispatch_child
from cgworker.cli.commands.worker.claim.finish import finish
from cgworker.cli.commands.worker.claim.next import claim_next
from cgworker.cli.commands.worker.claim.reconcile import reconcile
from cgworker.cli.commands.worker.claim.renew import renew
from cgworker.cli.commands.worker.claim.run import run
from cgworker.cli.commands.worker.claim.suspend import suspend

app: Program = group("Work a turn by hand, one step at a time.")
add_command(app, "next", claim_next)
add_command(app, "renew", renew)
add_command(app, "append", append)
add_command(app, "finish", finish)
add_command(app, "suspend", suspend)
add_command(app, "dispatch-child", dispatch_child)
add_command(app, "reconcile", reconcile)
add_command(app, "run", run)
