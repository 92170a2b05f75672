"""`cg setup project status`: how far a project is prepared."""

from __future__ import annotations

from cgworker.cli.project_flags import SetupFlags
from cgworker.cli.results import ProjectSetup


async def show_status(setup: SetupFlags) -> ProjectSetup:
    """Show how far a project is prepared."""
    from cgworker.cli.database import open_for_command
    from cgworker.cli.seeding import status

    files = setup.files()
    async with open_for_command("cg setup project", setup.pg_dsn) as database:
        return await status(database, setup.name, files)
