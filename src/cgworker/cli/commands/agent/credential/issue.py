"""`cg agent credential issue`: a new credential, its token in a private file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, Flag, OperatorFlags, ProjectId
from cgworker.cli.payload import read_duration
from cgworker.cli.results import IssuedToFile
from cgworker.paths import credential_path
from cgworker.private import replace_private
from cgworker.wire.credentials import IssueCredential, IssuedCredential
from cgworker.wire.refs import AgentRef

_PROVENANCE = "operator.cg_agent_credential.v1"


async def issue(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    expires_in: Annotated[
        str | None,
        Flag("--expires-in", metavar="DURATION", help="Let it expire after 24h, 7d, ..."),
    ] = None,
    out: Annotated[
        str | None,
        Flag("--out", metavar="FILE", help="The file for its token.  [default: with the other credentials]"),
    ] = None,
) -> IssuedToFile:
    """Issue a credential. Its token is written to a private file, never to the screen."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    request = IssueCredential(expires_at=_in(expires_in), provenance_kind=_PROVENANCE)
    async with as_admin_service(operator, project_id) as kernel:
        return _keep(await kernel.credentials.issue(agent, request), out)


def _keep(issued: IssuedCredential, out: str | None) -> IssuedToFile:
    made = issued.credential
    path = credential_path(made.project_id, made.agent_id, made.credential_id)
    path = Path(out).expanduser() if out else path
    replace_private(path, issued.token + "\n")
    return IssuedToFile(credential=made, token_file=str(path))


def _in(duration: str | None) -> datetime | None:
    if duration is None:
        return None
    return datetime.now(UTC) + timedelta(seconds=read_duration(duration, "--expires-in"))
