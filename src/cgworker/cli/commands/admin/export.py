"""`cg admin export`: write a project to a file, to move it to another database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cgworker.cli.move_results import ExportedProject
from cgworker.cli.options import Argument, Flag, PgDsn
from cgworker.cli.progress import progress
from cgworker.private import replacing_private


async def export(
    project_id: Annotated[str, Argument(metavar="PROJECT", help="The project.")],
    file: Annotated[str, Argument(metavar="FILE", help="The file to write; it is replaced.")],
    close: Annotated[
        bool, Flag("--close", help="Close the project first: nothing can be written to it any more.")
    ] = False,
    pg_dsn: PgDsn = None,
) -> ExportedProject:
    """Write everything of a project to a file, as it is at one moment. Kernels work on meanwhile.

    With --close, writes to the project are refused from then on, with 503 and Retry-After, and everything
    written before is in the file. `cg admin reopen` takes that back. The file has all payloads, and hashes of
    all credentials: keep it as you keep the database.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store.moves import close_project
    from cgworker.kernel.store.project_copy import export_project

    async with open_for_command("cg admin export", pg_dsn) as database:
        if close:
            with progress("closing the project"):
                await close_project(database, project_id)
        with progress("writing the project"), replacing_private(Path(file)) as stream:
            header, end = await export_project(database, project_id, stream)
    return ExportedProject(
        project_id=project_id, file=file, closed=header.is_closed, rows=end.rows, sha256=end.sha256
    )
