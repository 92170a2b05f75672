"""`cg setup`: prepare a project in the database, and this machine to use it.

What needs the kernel is imported where it is used: writing a config takes no more than the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from attrs import frozen

from cgworker.cli.command import command, group
from cgworker.cli.options import AdminBaseUrl, AdminBearerFile, AdminServiceFile, BaseUrl, ConfigPath, PgDsn
from cgworker.cli.results import ClientConfig, ProjectSetup
from cgworker.errors import UsageError
from cgworker.paths import admin_bearer_path
from cgworker.profiles import DEFAULT_BASE_URL, ConfigFile, non_blank

if TYPE_CHECKING:
    from cgworker.cli.seeding import OperatorFiles

app: typer.Typer = group("Prepare projects, and this machine to use them.")
projects: typer.Typer = group("Prepare a project, look at its preparation, use it from here.")
app.add_typer(projects, name="project")

LOCAL_PROJECT = "cg-demo"
_ADMIN_URL = "http://127.0.0.1:8001"


@frozen(kw_only=True)
class ProjectFlags:
    """Which project."""

    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="PROJECT", help="The project.  [default: cg-demo]")
    ] = None
    default_local: Annotated[bool, typer.Option("--default-local", help="The same as cg-demo.")] = False

    @property
    def name(self) -> str:
        """The project's id.

        Raises:
            UsageError: both flags are given.
        """
        if self.project_id is not None and self.default_local:
            raise UsageError("give --project-id or --default-local, not both")
        return non_blank(self.project_id) or LOCAL_PROJECT


@frozen(kw_only=True)
class SetupFlags(ProjectFlags):
    """Which project in which database, and where its operator's secrets are."""

    pg_dsn: PgDsn = None
    admin_service_token_file: AdminServiceFile = None
    admin_auth_token_file: AdminBearerFile = None

    def files(self) -> OperatorFiles:
        """Where the operator's secrets are."""
        from cgworker.cli.seeding import OperatorFiles

        return OperatorFiles.of(
            self.name,
            service_credential=self.admin_service_token_file,
            admin_bearer=self.admin_auth_token_file,
        )


@command(projects, "seed")
async def seed_project(
    setup: SetupFlags,
    creator_ref: Annotated[
        str, typer.Option("--creator-ref", metavar="REF", help="Who prepares it; kept nowhere.")
    ] = "local-dev",
    rotate_admin_service_token: Annotated[
        bool, typer.Option("--rotate-admin-service-token", help="Replace admin-service's credential.")
    ] = False,
    rotate_admin_auth_token: Annotated[
        bool, typer.Option("--rotate-admin-auth-token", help="Replace the admin API's bearer.")
    ] = False,
) -> ProjectSetup:
    """Prepare a project: its admin-service, and the operator's two secret files. What works is kept."""
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


@command(projects, "status")
async def show_status(setup: SetupFlags) -> ProjectSetup:
    """Show what stands of a project's preparation."""
    from cgworker.cli.database import open_for_command
    from cgworker.cli.seeding import status

    files = setup.files()
    async with open_for_command("cg setup project", setup.pg_dsn) as database:
        return await status(database, setup.name, files)


@command(projects, "client-config")
def client_config(
    project: ProjectFlags,
    base_url: BaseUrl = None,
    admin_base_url: AdminBaseUrl = None,
    admin_auth_token_file: AdminBearerFile = None,
    config: ConfigPath = None,
) -> ClientConfig:
    """Write the servers' addresses and the operator's bearer file to this machine's config."""
    config_file = ConfigFile.locate(config)
    written = ClientConfig(
        config_path=str(config_file.path),
        base_url=non_blank(base_url) or DEFAULT_BASE_URL,
        admin_base_url=non_blank(admin_base_url) or _ADMIN_URL,
        admin_auth_token_file=non_blank(admin_auth_token_file) or str(admin_bearer_path(project.name)),
        project_id=project.name,
    )

    def change(content: dict[str, Any]) -> None:
        content["base_url"] = written.base_url
        content["admin_base_url"] = written.admin_base_url
        content["admin_auth"] = {"token_file": written.admin_auth_token_file}

    config_file.update(change)
    return written
