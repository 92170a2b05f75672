"""The flags of `cg setup project`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from attrs import frozen

from cgworker.cli.options import AdminBearerFile, AdminServiceFile, Flag, PgDsn
from cgworker.errors import UsageError
from cgworker.profiles import non_blank

if TYPE_CHECKING:
    from cgworker.cli.seeding import OperatorFiles


LOCAL_PROJECT = "cg-demo"


@frozen(kw_only=True)
class ProjectFlags:
    """The flags that name a project."""

    project_id: Annotated[
        str | None, Flag("--project-id", metavar="PROJECT", help="The project.  [default: cg-demo]")
    ] = None
    default_local: Annotated[bool, Flag("--default-local", help="Use the project cg-demo.")] = False

    @property
    def name(self) -> str:
        """Return the project's id.

        Raises:
            UsageError: both flags are given.
        """
        if self.project_id is not None and self.default_local:
            raise UsageError("give --project-id or --default-local, not both")
        return non_blank(self.project_id) or LOCAL_PROJECT


@frozen(kw_only=True)
class SetupFlags(ProjectFlags):
    """The flags that name a project, its database and the files of its operator's secrets."""

    pg_dsn: PgDsn = None
    admin_service_token_file: AdminServiceFile = None
    admin_auth_token_file: AdminBearerFile = None

    def files(self) -> OperatorFiles:
        """Return the files of the operator's secrets."""
        from cgworker.cli.seeding import OperatorFiles

        return OperatorFiles.of(
            self.name,
            service_credential=self.admin_service_token_file,
            admin_bearer=self.admin_auth_token_file,
        )
