"""`cg local run`: a kernel with its admission service, from nothing."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.options import AdminBearerFile, AdminServiceFile, Flag, ListenFlags, MaybeProjectId
from cgworker.profiles import non_blank


async def run(
    listen: ListenFlags,
    project_id: MaybeProjectId = None,
    admin_service_token_file: AdminServiceFile = None,
    admin_auth_token_file: AdminBearerFile = None,
    base_url: Annotated[
        str | None,
        Flag("--base-url", metavar="URL", help="The address that clients use, for agents that join."),
    ] = None,
) -> None:
    """Run a kernel and its admission service until SIGTERM or SIGINT.

    Without PG_DSN it runs its own PostgreSQL, whose data stays in the XDG data folder. It makes the schema,
    the project and the operator's secret files itself. It listens at CG_HOST and CG_PORT, or 127.0.0.1:8000,
    and reads all other CG_* variables as `cg service run` does. While it runs, other commands of this user on
    this machine use it, unless they name another kernel.
    """
    from cgworker.cli.serving import AdmissionSetup, config_of, run_local

    admission = AdmissionSetup.of(project_id, admin_service_token_file, admin_auth_token_file)
    await run_local(config_of(listen), admission, non_blank(base_url))
