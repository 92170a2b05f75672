"""`cg admission invite revoke`: make an invite's code useless."""

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
    invite_id: Annotated[str, Flag("--invite-id", metavar="INVITE", help="Which one (aginv_...).")],
    project_id: ProjectId = "cg-demo",
) -> RevokedInvite:
    """Make an invite's code useless. Who has joined by it stays."""
    async with as_operator(admin, project_id, to="revoke an Agent join invite") as admission:
        return RevokedInvite(invite=await admission.revoke_invite(project_id, invite_id))
