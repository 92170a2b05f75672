"""`cg admission invite`: the codes by which an external runtime becomes an agent."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.admission.invite.create import create
from cgworker.cli.commands.admission.invite.list import list_invites
from cgworker.cli.commands.admission.invite.revoke import revoke

app: Program = group("Invites: what lets an external runtime become an agent.")
add_command(app, "create", create)
add_command(app, "list", list_invites)
add_command(app, "revoke", revoke)
