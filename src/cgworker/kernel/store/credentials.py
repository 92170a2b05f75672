"""Agent credentials (wire 6.2)."""

from __future__ import annotations

import re
import secrets

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.agents import get_agent
from cgworker.kernel.store.ids import hash_of
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.wire.credentials import CredentialSummary, IssueCredential, IssuedCredential
from cgworker.wire.refs import AgentRef

TOKEN = re.compile(r"cgac_(?P<credential_id>[A-Za-z0-9_-]+)\.(?P<secret>[A-Za-z0-9_-]+)\Z", re.ASCII)
"""The form of a credential's token."""

_ROUTE_PROVENANCE = "agent_credential_lifecycle_route"

ISSUE_CREDENTIAL = """
insert into cg_credentials (credential_id, project_id, agent_id, secret_hash, status, issued_by_agent_id,
    provenance_kind, provenance_ref, provenance_payload_hash, expires_at)
select $1, project_id, agent_id, $4, 'active', $5, $6, $7, $8, $9
from cg_agents
where project_id = $2 and agent_id = $3 and enabled
returning *
"""


async def issue_credential(
    database: Database | Connection, agent: AgentRef, request: IssueCredential, *, issued_by: str | None
) -> IssuedCredential:
    """Issue a credential; its token is not stored and cannot be read again.

    Args:
        database: the kernel's database, or a connection to it.
        agent: the agent that gets the credential.
        request: its provenance and its end.
        issued_by: the agent that issues it; None for the operator.

    Raises:
        NotFoundError: there is no such agent.
        ConflictError: the agent is disabled.
    """
    credential_id = f"cred_{secrets.token_urlsafe(18)}"
    secret = secrets.token_urlsafe(32)
    row = await database.fetchrow(
        ISSUE_CREDENTIAL,
        credential_id,
        agent.project_id,
        agent.agent_id,
        hash_of(secret),
        issued_by,
        request.provenance_kind or _ROUTE_PROVENANCE,
        request.provenance_ref,
        request.provenance_payload_hash,
        request.expires_at,
    )
    if row is None:
        await get_agent(database, agent)
        raise ConflictError(f"agent disabled: {agent.agent_id}")
    return IssuedCredential(credential=summary_of(row), token=f"cgac_{credential_id}.{secret}")


REVOKE_CREDENTIAL = """
update cg_credentials
set status = 'revoked', revoked_at = coalesce(revoked_at, cg_clock()), updated_at = cg_clock()
where credential_id = $1 and project_id = $2 and agent_id = $3
returning *
"""

FIND_CREDENTIAL = "select project_id, agent_id from cg_credentials where credential_id = $1"


async def revoke_credential(database: Database, agent: AgentRef, credential_id: str) -> CredentialSummary:
    """Revoke a credential, from the next request on. A repeat keeps the first time of revocation.

    Raises:
        NotFoundError, ConflictError: the agent or the credential does not exist, or is another agent's.
    """
    row = await database.fetchrow(REVOKE_CREDENTIAL, credential_id, agent.project_id, agent.agent_id)
    if row is None:
        await require_credential(database, agent, credential_id)
        raise AssertionError("unreachable: a credential keeps its agent")
    return summary_of(row)


async def require_credential(database: Database, agent: AgentRef, credential_id: str) -> None:
    """Raise NotFoundError or ConflictError unless the agent exists and has the credential."""
    await get_agent(database, agent)
    row = await database.fetchrow(FIND_CREDENTIAL, credential_id)
    if row is None:
        raise NotFoundError(f"agent credential not found: {credential_id}")
    if (row["project_id"], row["agent_id"]) != (agent.project_id, agent.agent_id):
        raise ConflictError("credential does not belong to path agent")


LIST_CREDENTIALS = """
select * from cg_credentials
where project_id = $1 and agent_id = $2
order by created_at, credential_id
"""


async def list_credentials(database: Database, agent: AgentRef) -> tuple[CredentialSummary, ...]:
    """List all credentials of an agent, revoked ones too."""
    rows = await database.fetch(LIST_CREDENTIALS, agent.project_id, agent.agent_id)
    return tuple(summary_of(row) for row in rows)


def summary_of(row: Row) -> CredentialSummary:
    """Convert a row of cg_credentials to a summary, without the secret."""
    return CredentialSummary(
        credential_id=row["credential_id"],
        project_id=row["project_id"],
        agent_id=row["agent_id"],
        status=row["status"],
        issued_by_agent_id=row["issued_by_agent_id"],
        provenance_kind=row["provenance_kind"],
        provenance_ref=row["provenance_ref"],
        provenance_payload_hash=row["provenance_payload_hash"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
