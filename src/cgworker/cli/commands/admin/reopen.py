"""`cg admin reopen`: let a project that was closed for its export be written to again."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.move_results import ReopenedProject
from cgworker.cli.options import Argument, PgDsn


async def reopen(
    project_id: Annotated[str, Argument(metavar="PROJECT", help="The project.")], pg_dsn: PgDsn = None
) -> ReopenedProject:
    """Open a project again that `cg admin export --close` has closed.

    Do not, once it has been imported elsewhere: it would go on in two places.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store.moves import open_project

    async with open_for_command("cg admin reopen", pg_dsn) as database:
        await open_project(database, project_id)
    return ReopenedProject(project_id=project_id)
