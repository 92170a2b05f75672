"""`cg agent credential`: an agent's credentials, for the operator."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.agent.credential.issue import issue
from cgworker.cli.commands.agent.credential.list import list_credentials
from cgworker.cli.commands.agent.credential.revoke import revoke

app: Program = group("Look at an agent's credentials, issue and revoke them.")
add_command(app, "list", list_credentials)
add_command(app, "issue", issue)
add_command(app, "revoke", revoke)
