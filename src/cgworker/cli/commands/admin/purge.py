"""`cg admin purge`: remove closed turns of some age from a project's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import attrs

from cgworker.cli.confirming import can_ask, confirm
from cgworker.cli.options import Flag, PgDsn
from cgworker.cli.payload import read_duration
from cgworker.cli.progress import progress
from cgworker.cli.results import PurgedProject

if TYPE_CHECKING:
    from cgworker.kernel.store.purge import Purged


async def purge(
    older_than: Annotated[
        str,
        Flag(
            "--older-than",
            metavar="DURATION",
            help="The least age since a turn was closed, with its unit: 90d, 12h, 30m, 45s.",
        ),
    ],
    project_id: Annotated[str, Flag("--project-id", metavar="PROJECT", help="The project.")] = "cg-demo",
    dry_run: Annotated[
        bool, Flag("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, Flag("--yes", help="Do not ask for confirmation on a terminal.")] = False,
    pg_dsn: PgDsn = None,
) -> PurgedProject:
    """Remove closed turns of that age with their records, old idempotency keys and revoked credentials.

    On a terminal it prints what would be removed, and asks for confirmation. A kernel purges by itself only
    with CG_RETENTION_DAYS. Feeds start after the removed events, and the dispatch key of a removed turn makes
    a new turn.
    """
    from cgworker.cli.database import open_for_command
    from cgworker.kernel.store import purge as store

    seconds = read_duration(older_than, "--older-than")
    async with open_for_command("cg admin purge", pg_dsn) as database:
        asks = not yes and can_ask()
        if dry_run or asks:
            purged = await store.count_purgeable(database, project_id, seconds)
        if asks and not dry_run:
            confirm(f"Remove for ever from {project_id} what is over for {older_than}: {_counted(purged)}?")
        if not dry_run:
            with progress("removing what is over"):
                purged = await store.purge(database, project_id, seconds)
    return PurgedProject(
        project_id=project_id, older_than_seconds=seconds, dry_run=dry_run, **attrs.asdict(purged)
    )


def _counted(counts: Purged) -> str:
    return ", ".join(
        f"{count} {name.removesuffix('_count').replace('_', ' ')}{'' if count == 1 else 's'}"
        for name, count in attrs.asdict(counts).items()
    )
