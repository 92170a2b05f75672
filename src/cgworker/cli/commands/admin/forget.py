"""`cg admin forget`: remove a project that has moved to another database."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.confirming import can_ask, confirm
from cgworker.cli.move_results import ForgottenProject
from cgworker.cli.options import Argument, Flag, PgDsn
from cgworker.cli.progress import progress


async def forget(
    project_id: Annotated[str, Argument(metavar="PROJECT", help="The project.")],
    yes: Annotated[bool, Flag("--yes", help="Do not ask for confirmation on a terminal.")] = False,
    pg_dsn: PgDsn = None,
) -> ForgottenProject:
    """Remove a closed project for ever, once it has been imported elsewhere and is served from there.

    Requests for it that still come here are answered with 503, so that they are repeated.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store.moves import forget_project

    async with open_for_command("cg admin forget", pg_dsn) as database:
        if not yes and can_ask():
            confirm(f"Remove {project_id} for ever from this database?")
        with progress("removing the project"):
            rows = await forget_project(database, project_id)
    return ForgottenProject(project_id=project_id, rows=rows)
