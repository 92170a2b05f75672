"""`cg top`: a project on one screen, as it changes."""

from __future__ import annotations

import sys
from typing import Annotated

import anyio

from cgworker.cli.command import Program, add_program, single
from cgworker.cli.connect import as_reader
from cgworker.cli.envelope import write_line
from cgworker.cli.identity import project_of
from cgworker.cli.options import CallerFlags, Flag, ProfilesProjectId, ServerFlags
from cgworker.cli.overview import read_overview
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.errors import KernelTrouble


async def top(
    server: ServerFlags,
    caller: CallerFlags,
    once: Annotated[bool, Flag("--once", help="Show it once, and end.")] = False,
    interval_seconds: Annotated[
        float, Flag("--interval-seconds", min=0.5, metavar="S", help="Read the project every S seconds.")
    ] = 2.0,
    json: Annotated[bool, Flag("--json", help="Print it once, as one line of JSON.")] = False,
    project_id: ProfilesProjectId = None,
) -> None:
    """Show agents, turns by state and open questions, until Ctrl-C. Without a terminal it is shown once."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        if json or not sys.stdout.isatty():
            write_line(await read_overview(kernel, project_id))
            return
        from rich.live import Live

        from cgworker.cli.overview_views import drawn  # needs rich
        from cgworker.cli.rendering import screen

        with progress("waiting for the kernel", after_seconds=SILENT_SECONDS):
            overview = await read_overview(kernel, project_id)
        if once:
            screen().print(drawn(overview), crop=False)
            return
        with Live(drawn(overview), console=screen(), screen=True, auto_refresh=False) as live:
            while True:
                live.refresh()
                await anyio.sleep(interval_seconds)
                try:
                    overview = await read_overview(kernel, project_id)
                    live.update(drawn(overview))
                except KernelTrouble as trouble:  # it goes on when the kernel is back
                    live.update(drawn(overview, trouble=str(trouble)))


app: Program = single()
add_program(app, "top", top)
