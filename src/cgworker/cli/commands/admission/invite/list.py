"""`cg admission invite list`: a project's invites."""

from __future__ import annotations

from cgworker.cli.connect import as_operator
from cgworker.cli.options import (
    AdminFlags,
    ProjectId,
)
from cgworker.wire.admission import InviteList


async def list_invites(admin: AdminFlags, project_id: ProjectId = "cg-demo") -> InviteList:
    """List a project's invites, the newest first, without their codes."""
    async with as_operator(admin, project_id, to="list Agent join invites") as admission:
        return InviteList(invites=await admission.invites(project_id))
