"""`cg admin import`: read a project from a file that another database's `cg admin export` has written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cgworker.cli.move_results import ImportedProject
from cgworker.cli.options import Argument, Flag, PgDsn
from cgworker.cli.progress import progress


async def import_(
    file: Annotated[str, Argument(metavar="FILE", help="The file.")],
    copy: Annotated[
        bool, Flag("--copy", help="Take a project that was open when it was exported, as it was then.")
    ] = False,
    pg_dsn: PgDsn = None,
) -> ImportedProject:
    """Read a project from a file of `cg admin export`, all or nothing. Kernels serve it at once.

    The same file again changes nothing. A project of the same name is never overwritten.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store.project_copy import import_project

    with Path(file).open("rb") as stream:  # noqa: ASYNC230  # nothing else waits for this command
        async with open_for_command("cg admin import", pg_dsn) as database:
            with progress("reading the project"):
                imported = await import_project(database, stream, takes_open=copy)
    return ImportedProject(
        project_id=imported.project_id,
        file=file,
        imported=imported.is_new,
        rows=imported.end.rows,
        sha256=imported.end.sha256,
    )
