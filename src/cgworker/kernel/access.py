"""Who calls: every authenticated route asks here, with one statement (protocol.md 3)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from attrs import frozen
from starlette.requests import Request

from cgworker.errors import ConflictError, ForbiddenError, UnauthorizedError
from cgworker.wire.refs import AgentRef

if TYPE_CHECKING:
    from cgworker.kernel.store.postgres import Database, Row

_TOKEN = re.compile(r"cgac_(?P<credential_id>[A-Za-z0-9_-]+)\.(?P<secret>[A-Za-z0-9_-]+)\Z", re.ASCII)


@frozen(kw_only=True)
class Caller:
    """An authenticated agent."""

    agent: AgentRef
    credential_id: str
    grants: frozenset[str]

    def holds(self, grant: str) -> bool:
        """Whether the agent has the grant, to the letter."""
        return grant in self.grants

    def require_grant(self, grant: str) -> None:
        """Raise ConflictError, as the reference does, unless the agent has the grant."""
        if not self.holds(grant):
            raise ConflictError(f"caller missing grant: {grant}")

    def require_is(self, actor: AgentRef) -> None:
        """Raise ForbiddenError unless the caller is who the request says acts."""
        if self.agent != actor:
            raise ForbiddenError("authenticated caller identity does not match request body")

    def require_reads(self, project_id: str) -> None:
        """Raise ForbiddenError unless the caller's project is the one read from."""
        if self.agent.project_id != project_id:
            raise ForbiddenError("authenticated caller project does not match read project")


FIND_CALLER = """
select c.secret_hash, c.status, c.project_id, c.agent_id,
    coalesce(c.expires_at <= now(), false) as is_expired,
    c.last_used_at is null or c.last_used_at < now() - interval '1 minute' as is_touch_due,
    a.agent_id is not null as has_agent, a.enabled, a.grants
from cg_credentials c
left join cg_agents a on a.project_id = c.project_id and a.agent_id = c.agent_id
where c.credential_id = $1
"""

# At most once a minute (decision 12); updated_at does not move with it.
TOUCH_CREDENTIAL = """
update cg_credentials set last_used_at = now()
where credential_id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')
"""


async def authenticate(request: Request) -> Caller:
    """The caller of a request.

    Raises:
        UnauthorizedError, ForbiddenError: in the order and words of protocol.md 3.
    """
    kernel = request.app.state.kernel
    project_id = request.headers.get(kernel.config.project_header)
    agent_id = request.headers.get(kernel.config.agent_header)
    if not project_id or not agent_id:
        raise UnauthorizedError("claimed agent identity headers are required")
    claimed = AgentRef(project_id=project_id, agent_id=agent_id)
    return await identify(kernel.database, claimed, _bearer(request.headers.get("authorization")))


async def identify(database: Database, claimed: AgentRef, token: str) -> Caller:
    """The agent that a token belongs to, if it is the one claimed.

    Raises:
        UnauthorizedError, ForbiddenError: in the order and words of protocol.md 3.
    """
    parts = _TOKEN.match(token)
    if parts is None:
        raise UnauthorizedError("invalid agent credential token format")
    credential_id = parts["credential_id"]
    row = await database.fetchrow(FIND_CALLER, credential_id)
    if row is None:
        raise UnauthorizedError("agent credential not found")
    if not hmac.compare_digest(row["secret_hash"], hashlib.sha256(parts["secret"].encode()).digest()):
        raise UnauthorizedError("invalid agent credential secret")
    _check_standing(row, claimed)
    if row["is_touch_due"]:
        await database.execute(TOUCH_CREDENTIAL, credential_id)
    return Caller(agent=claimed, credential_id=credential_id, grants=frozenset(row["grants"]))


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise UnauthorizedError("agent credential authorization is required")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("agent credential authorization must use Bearer token")
    return token.strip()


def _check_standing(row: Row, claimed: AgentRef) -> None:
    if row["status"] != "active":
        raise ForbiddenError(f"agent credential status is not active: {row['status']}")
    if row["is_expired"]:
        raise UnauthorizedError("agent credential expired")
    if (row["project_id"], row["agent_id"]) != (claimed.project_id, claimed.agent_id):
        raise ForbiddenError("agent credential identity does not match claimed identity")
    if not row["has_agent"]:
        raise ForbiddenError("authenticated agent does not exist")
    if not row["enabled"]:
        raise ForbiddenError("authenticated agent is disabled")
