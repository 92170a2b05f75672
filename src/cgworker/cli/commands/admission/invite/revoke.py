"""`cg admission invite revoke`: revoke an invite."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_operator
from cgworker.cli.options import (
    AdminFlags,
    Flag,
    ProjectId,
)
from cgworker.wire.admission import RevokedInvite


async def revoke(
    admin: AdminFlags,
    invite_id: Annotated[str, Flag("--invite-id", metavar="INVITE", help="The invite (aginv_...).")],
    project_id: ProjectId = "cg-demo",
) -> RevokedInvite:
    """Revoke an invite: its code is refused from now on. Agents that have joined stay."""
    async with as_operator(admin, project_id, to="revoke an Agent join invite") as admission:
        return RevokedInvite(invite=await admission.revoke_invite(project_id, invite_id))
