"""`cg setup project seed`: prepare a project in the database."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.options import Flag
from cgworker.cli.project_flags import SetupFlags
from cgworker.cli.results import ProjectSetup
from cgworker.errors import UsageError
from cgworker.profiles import non_blank


async def seed_project(
    setup: SetupFlags,
    creator_ref: Annotated[
        str, Flag("--creator-ref", metavar="REF", help="The name of the creator; not stored.")
    ] = "local-dev",
    rotate_admin_service_token: Annotated[
        bool, Flag("--rotate-admin-service-token", help="Replace admin-service's credential.")
    ] = False,
    rotate_admin_auth_token: Annotated[
        bool, Flag("--rotate-admin-auth-token", help="Replace the admin API's bearer.")
    ] = False,
) -> ProjectSetup:
    """Prepare a project: its admin-service, and the operator's two secret files. Keep what works."""
    from cgworker.cli.database import open_for_command
    from cgworker.cli.seeding import seed

    if non_blank(creator_ref) is None:
        raise UsageError("--creator-ref must be non-empty")
    files = setup.files()
    async with open_for_command("cg setup project", setup.pg_dsn) as database:
        return await seed(
            database,
            setup.name,
            files,
            rotate_credential=rotate_admin_service_token,
            rotate_bearer=rotate_admin_auth_token,
        )
