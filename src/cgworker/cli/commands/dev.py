"""`cg dev`: a kernel with a sample agent, or with the workers of a program, from nothing."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.command import Program, add_program, single
from cgworker.cli.options import Argument, Flag


async def dev(
    apps: Annotated[
        list[str] | None,
        Argument(
            metavar="[MODULE:WORKER]...",
            help="Workers to run, such as desk:desk.  [default: a sample agent, hello]",
        ),
    ] = None,
    port: Annotated[
        int, Flag("--port", min=0, max=65535, metavar="N", help="The kernel's port; 0 takes a free one.")
    ] = 0,
    fresh: Annotated[bool, Flag("--fresh", help="Begin anew: remove all turns, agents and secrets.")] = False,
    open: Annotated[bool, Flag("--open", help="Open the page in the browser of this machine.")] = False,
    project_id: Annotated[
        str | None,
        Flag("--project-id", metavar="PROJECT", help="The project.  [default: the workers', or dev]"),
    ] = None,
) -> None:
    """Run a kernel with agents and a page to look at them, until Ctrl-C. What happened is kept.

    The kernel has its own PostgreSQL. The agents of the workers are admitted by themselves: no profile is
    needed. You become the agent `me`, with a profile of its own.
    """
    from cgworker.cli.developing import DevServer  # needs the extra `kernel`

    await DevServer.of(apps or (), port=port, is_fresh=fresh, opens_browser=open, project_id=project_id).run()


app: Program = single()
add_program(app, "dev", dev)
