"""`cg admin`: what an operator does to a project's database now and then."""

from __future__ import annotations

from typing import Annotated

import typer

from cgworker.cli.command import command, group
from cgworker.cli.options import PgDsn
from cgworker.cli.payload import read_duration
from cgworker.cli.progress import progress
from cgworker.cli.results import PurgedProject

app: typer.Typer = group("Look after a project's database.")


@command(app, "purge")
async def purge(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="How long it has been over: 90d, 12h, ...")
    ],
    project_id: Annotated[
        str, typer.Option("--project-id", metavar="PROJECT", help="The project.")
    ] = "cg-demo",
    pg_dsn: PgDsn = None,
) -> PurgedProject:
    """Remove closed turns of that age with all they left, old idempotency keys and revoked credentials.

    Nothing is removed by itself. Feeds start after the gap, and a dispatch key whose turn is gone makes a
    new turn.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store import purge as store

    seconds = read_duration(older_than, "--older-than")
    async with open_for_command("cg admin purge", pg_dsn) as database:
        with progress("removing what is over"):
            purged = await store.purge(database, project_id, seconds)
    return PurgedProject(
        project_id=project_id,
        older_than_seconds=seconds,
        turn_count=purged.turn_count,
        record_count=purged.record_count,
        event_count=purged.event_count,
        key_count=purged.key_count,
        credential_count=purged.credential_count,
    )
