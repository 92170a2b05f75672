"""`cg admission run`: an admission service without a kernel."""

from __future__ import annotations

import os
from typing import Annotated

from cgworker.cli.options import (
    AdminBearerFile,
    AdminServiceFile,
    Flag,
    ListenFlags,
    MaybeProjectId,
)
from cgworker.profiles import non_blank


async def run(
    listen: ListenFlags,
    project_id: MaybeProjectId = None,
    admin_service_token_file: AdminServiceFile = None,
    admin_auth_token_file: AdminBearerFile = None,
    base_url: Annotated[
        str | None,
        Flag(
            "--base-url",
            metavar="URL",
            help="The kernel's address, for agents that join.  [env: CG_BASE_URL]",
        ),
    ] = None,
    invite_config_json: Annotated[
        str | None,
        Flag(
            "--invite-config-json",
            metavar="FILE",
            help="Invitation codes that admit conversation workers.  [env: CG_ADMIN_INVITE_CONFIG_JSON]",
        ),
    ] = None,
) -> None:
    """Run an admission service alone until SIGTERM or SIGINT, on the database of a kernel.

    It listens at CG_ADMIN_HOST and CG_ADMIN_PORT, or 127.0.0.1:8001. CG_ADMIN_LOG_LEVEL is its log level.
    """
    from cgworker.cli.serving import AdmissionSetup, admission_environ, config_of, run_admission

    admission = AdmissionSetup.of(
        project_id, admin_service_token_file, admin_auth_token_file, invitations=invite_config_json
    )
    address = non_blank(base_url) or non_blank(os.environ.get("CG_BASE_URL"))
    await run_admission(config_of(listen, admission_environ()), admission, address)
