"""`cg agent`: join as an agent, look at agents, and manage them."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, group
from cgworker.cli.commands.agent.credential import group as credential
from cgworker.cli.commands.agent.drain import drain
from cgworker.cli.commands.agent.feed import feed
from cgworker.cli.commands.agent.get import get
from cgworker.cli.commands.agent.join import join
from cgworker.cli.commands.agent.list import list_agents
from cgworker.cli.commands.agent.publish_offers import publish_offers
from cgworker.cli.commands.agent.register import register
from cgworker.cli.commands.agent.resume import resume
from cgworker.cli.commands.agent.update import update

app: Program = group("Join as an agent, look at agents, and manage them.")
add_command(app, "join", join)
add_command(app, "list", list_agents)
add_command(app, "get", get)
add_command(app, "drain", drain)
add_command(app, "resume", resume)
add_command(app, "feed", feed)
add_command(app, "register", register)
add_command(app, "update", update)
add_command(app, "publish-offers", publish_offers)
app.add_typer(credential.app, name="credential")
