"""`cg console`: show a project in a browser, and act in it."""

from __future__ import annotations

import webbrowser
from importlib import import_module
from typing import Annotated

from cgworker.cli.command import Program, add_program, single
from cgworker.cli.connect import as_actor
from cgworker.cli.envelope import say
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ServerFlags


async def console(
    server: ServerFlags,
    port: Annotated[
        int, Flag("--port", min=0, max=65535, metavar="N", help="The port; 0 takes a free one.")
    ] = 8765,
    open: Annotated[bool, Flag("--open", help="Open the console in the browser of this machine.")] = False,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> None:
    """Show a project in a browser, and act in it with the profile's rights, until SIGINT or SIGTERM.

    It listens on 127.0.0.1 only, and prints a link that opens it in one browser, once. It needs the extra
    cgworker[console].
    """
    import_module("jinja2")  # first what only the extra `console` brings, so that its hint is the right one
    from cgworker.console.server import serve_console

    def ready(link: str) -> None:
        say(f"The console is at {link}\nThe link works once.")
        if open:
            webbrowser.open(link)

    actor = acting_agent(server, project_id, agent_id, command_name="cg console")
    async with as_actor(server, actor) as kernel:
        await serve_console(kernel, port=port, ready=ready)


app: Program = single()
add_program(app, "console", console)
