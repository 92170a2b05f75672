"""Who calls: every authenticated route asks here, with one statement (protocol.md 3)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence

from attrs import frozen
from starlette.requests import Request

from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    ForbiddenError,
    KernelRefused,
    UnauthorizedError,
)
from cgworker.kernel.store.batch import only
from cgworker.kernel.store.credentials import TOKEN
from cgworker.kernel.store.ids import hash_of
from cgworker.kernel.store.postgres import Database, Row
from cgworker.wire.refs import AgentRef


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


FIND_CALLERS = """
select c.credential_id, c.secret_hash, c.status, c.project_id, c.agent_id,
    coalesce(c.expires_at <= now(), false) as is_expired,
    c.last_used_at is null or c.last_used_at < now() - interval '1 minute' as is_touch_due,
    a.agent_id is not null as has_agent, a.enabled, a.grants
from cg_credentials c
left join lateral (
    select agent_id, enabled, grants
    from cg_agents
    where project_id = c.project_id and agent_id = c.agent_id
    limit 1
) a on true
where c.credential_id = any ($1)
"""

# At most once a minute (decision 12); updated_at does not move with it. Nobody waits for it: a row that is
# locked is being used or revoked by somebody else just now.
TOUCH_CREDENTIALS = """
update cg_credentials c
set last_used_at = now()
from (
    select credential_id
    from cg_credentials
    where credential_id = any ($1) and (last_used_at is null or last_used_at < now() - interval '1 minute')
    for no key update skip locked
) due
where c.credential_id = due.credential_id
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
    token = _bearer(request.headers.get("authorization"))
    return only(await identify(kernel.database, [(claimed, token)]))


async def identify(
    database: Database, shown: Sequence[tuple[AgentRef, str]]
) -> list[Caller | CommonGroundError]:
    """The agents that tokens belong to, if they are the ones claimed.

    Returns:
        By place, the caller, or UnauthorizedError or ForbiddenError in the order and words of protocol.md 3.
    """
    tokens = [TOKEN.match(token) for _, token in shown]
    wanted = [token["credential_id"] for token in tokens if token]
    rows = {row["credential_id"]: row for row in await database.fetch(FIND_CALLERS, wanted)} if wanted else {}
    callers: list[Caller | CommonGroundError] = []
    for (claimed, _), token in zip(shown, tokens, strict=True):
        try:
            callers.append(_caller(claimed, token, rows))
        except KernelRefused as refusal:
            callers.append(refusal)
    used = {caller.credential_id for caller in callers if isinstance(caller, Caller)}
    if due := [credential_id for credential_id in used if rows[credential_id]["is_touch_due"]]:
        await database.execute(TOUCH_CREDENTIALS, due)
    return callers


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise UnauthorizedError("agent credential authorization is required")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("agent credential authorization must use Bearer token")
    return token.strip()


def _caller(claimed: AgentRef, token: re.Match[str] | None, rows: Mapping[str, Row]) -> Caller:
    if token is None:
        raise UnauthorizedError("invalid agent credential token format")
    row = rows.get(token["credential_id"])
    if row is None:
        raise UnauthorizedError("agent credential not found")
    if not hmac.compare_digest(row["secret_hash"], hash_of(token["secret"])):
        raise UnauthorizedError("invalid agent credential secret")
    _check_standing(row, claimed)
    return Caller(agent=claimed, credential_id=row["credential_id"], grants=frozenset(row["grants"]))


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
