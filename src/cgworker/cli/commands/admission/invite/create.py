"""`cg admission invite create`: invite an agent."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import admin_url, as_operator
from cgworker.cli.options import (
    AdminFlags,
    Capacity,
    Flag,
    Grants,
    ProjectId,
)
from cgworker.cli.payload import read_duration, write_json_file
from cgworker.cli.problems import reset_code
from cgworker.cli.results import InviteResult
from cgworker.errors import KernelRefused
from cgworker.profiles import ConfigFile, non_blank
from cgworker.wire.absent import ABSENT
from cgworker.wire.admission import WORKER_PROFILE, CreateInvite


async def create(
    admin: AdminFlags,
    agent_id: Annotated[str, Flag("--agent-id", metavar="AGENT", help="The id of the new agent.")],
    project_id: ProjectId = "cg-demo",
    profile_kind: Annotated[
        str,
        Flag("--profile-kind", metavar="KIND", help="The kind of profile, which decides the agent's grants."),
    ] = WORKER_PROFILE,
    runtime_kind: Annotated[
        str, Flag("--runtime-kind", metavar="KIND", help="The kind of program behind the agent, for people.")
    ] = "manual.shell.v1",
    display_name: Annotated[
        str | None, Flag("--display-name", metavar="NAME", help="The agent's name, for people.")
    ] = None,
    description: Annotated[
        str | None, Flag("--description", metavar="TEXT", help="What the agent is for.")
    ] = None,
    expires_in: Annotated[
        str, Flag("--expires-in", metavar="DURATION", help="How long the code is valid: 24h, 60m, 7d.")
    ] = "24h",
    max_uses: Annotated[
        int, Flag("--max-uses", min=1, metavar="N", help="How many times the code can be used.")
    ] = 1,
    capacity: Capacity = None,
    grant: Grants = None,
    join_base_url: Annotated[
        str | None,
        Flag("--join-base-url", metavar="URL", help="The address in the join command."),
    ] = None,
    out: Annotated[
        str | None,
        Flag("--out", metavar="FILE", help="Write the result to a private file as well."),
    ] = None,
) -> InviteResult:
    """Invite an agent. The code is shown only now; send it to the agent's owner."""
    wanted = CreateInvite(
        agent_id=agent_id,
        profile_kind=profile_kind,
        runtime_kind=runtime_kind,
        display_name=display_name,
        description=description,
        expires_in_seconds=read_duration(expires_in, "--expires-in"),
        single_use=max_uses == 1,
        max_uses=max_uses,
        capacity=ABSENT if capacity is None else capacity,
        grants=tuple(grant) if grant else ABSENT,
    )
    async with as_operator(admin, project_id, to="create an Agent join invite") as admission:
        try:
            created = await admission.create_invite(project_id, wanted)
        except KernelRefused as refused:
            raise reset_code(refused, "admin_auth_required") from refused
    address = non_blank(join_base_url) or _admission_address(admin, project_id)
    result = InviteResult(
        project_id=project_id,
        agent_id=created.invite.agent_id,
        invite=created.invite,
        join_command=f"cg agent join {address} {created.join_code}",
        join_code=created.join_code,
    )
    if out is not None:
        write_json_file(out, result, pretty=True)
    return result


def _admission_address(admin: AdminFlags, project_id: str) -> str:
    config = ConfigFile.locate(admin.config).read()
    return admin_url(admin.admin_base_url, None, config, project_id).rstrip("/")
