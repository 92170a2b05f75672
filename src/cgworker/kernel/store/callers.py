"""Authenticate callers: each statement checks the credential that it acts for (difference 12).

The statement of a frequent operation joins `cg_callers` and skips items with an invalid credential. For an
item without a row, `identify` then finds the reason, in the order and words of wire 3.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    ForbiddenError,
    KernelOverloaded,
    KernelRefused,
)
from cgworker.kernel.store.batch import single
from cgworker.kernel.store.credentials import TOKEN
from cgworker.kernel.store.ids import hash_of
from cgworker.kernel.store.postgres.database import Database, Row, project_closed
from cgworker.wire.refs import AgentRef
from cgworker.wire.refusals import Refusal

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_TOUCH_SECONDS = 2.0


@frozen
class PresentedCredential:
    """A credential as a request presents it, unchecked.

    Attributes:
        agent: the agent that the caller claims to be.
        credential_id: the id in its token.
        secret_hash: the hash of the secret in its token.
    """

    agent: AgentRef
    credential_id: str
    secret_hash: bytes = field(repr=False)

    @classmethod
    def of(cls, agent: AgentRef, token: str) -> PresentedCredential:
        """Parse a token; raise UnauthorizedError if it does not have the form of one."""
        parts = TOKEN.match(token)
        if parts is None:
            raise Refusal.TOKEN_MALFORMED.error()
        return cls(agent, parts["credential_id"], hash_of(parts["secret"]))

    def row(self) -> tuple[str, bytes]:
        """Return the columns that a statement compares, without the agent."""
        return self.credential_id, self.secret_hash


@frozen(kw_only=True)
class Caller:
    """An authenticated agent."""

    agent: AgentRef
    credential_id: str
    grants: frozenset[str]

    def holds(self, grant: str) -> bool:
        """Whether the agent has exactly this grant."""
        return grant in self.grants

    def require_grant(self, grant: str) -> None:
        """Raise ConflictError, as the reference does, unless the agent has the grant."""
        if not self.holds(grant):
            raise ConflictError(f"caller missing grant: {grant}")

    def require_is(self, actor: AgentRef) -> None:
        """Raise ForbiddenError unless the caller is the agent that the request names as acting."""
        if self.agent != actor:
            raise ForbiddenError("authenticated caller identity does not match request body")

    def require_reads(self, project_id: str) -> None:
        """Raise ForbiddenError unless the caller belongs to the project that it reads."""
        if self.agent.project_id != project_id:
            raise ForbiddenError("authenticated caller project does not match read project")


FIND_CALLERS = """
select c.credential_id, c.secret_hash, c.status, c.project_id, c.agent_id,
    coalesce(c.expires_at <= cg_now(), false) as is_expired,
    c.last_used_at is null or c.last_used_at < cg_now() - interval '1 minute' as is_touch_due,
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


async def identify(
    database: Database, bearers: Sequence[PresentedCredential]
) -> list[Caller | CommonGroundError]:
    """Authenticate the presented credentials with one statement.

    Returns:
        By place, the caller, or UnauthorizedError or ForbiddenError in the order and words of wire 3. For the
        credentials of a project that has moved to another database it is KernelOverloaded: the caller then
        asks again, and by then it is sent there.
    """
    rows = await database.fetch(FIND_CALLERS, [bearer.credential_id for bearer in bearers])
    known = {row["credential_id"]: row for row in rows}
    moved = await _moved(database, {b.agent.project_id for b in bearers if b.credential_id not in known})
    callers = [_caller(bearer, known, moved) for bearer in bearers]
    good = {caller.credential_id for caller in callers if isinstance(caller, Caller)}
    await touch(database, (credential_id for credential_id in good if known[credential_id]["is_touch_due"]))
    return callers


async def require_caller(database: Database, bearer: PresentedCredential) -> Caller:
    """Authenticate one credential, and return its caller.

    Raises:
        UnauthorizedError, ForbiddenError: the refusals that `identify` returns.
    """
    return single(await identify(database, [bearer]))


IS_CLOSED = "select exists (select from cg_moves where project_id = $1 and closed_at is not null)"


async def _moved(database: Database, project_ids: set[str]) -> set[str]:
    """Return those of the projects that are closed or forgotten here (moves.py)."""
    return {each for each in project_ids if await database.fetchval(IS_CLOSED, each)}


def _caller(
    bearer: PresentedCredential, known: Mapping[str, Row], moved: set[str]
) -> Caller | CommonGroundError:
    if bearer.credential_id not in known and bearer.agent.project_id in moved:
        return project_closed()
    try:
        return _check(bearer, known.get(bearer.credential_id))
    except KernelRefused as refusal:
        return refusal


def _check(bearer: PresentedCredential, row: Row | None) -> Caller:
    if row is None:
        raise Refusal.CREDENTIAL_UNKNOWN.error()
    if not hmac.compare_digest(row["secret_hash"], bearer.secret_hash):
        raise Refusal.CREDENTIAL_SECRET_WRONG.error()
    if row["status"] != "active":
        raise Refusal.CREDENTIAL_NOT_ACTIVE.error(row["status"])
    if row["is_expired"]:
        raise Refusal.CREDENTIAL_EXPIRED.error()
    if AgentRef(project_id=row["project_id"], agent_id=row["agent_id"]) != bearer.agent:
        raise ForbiddenError("agent credential identity does not match claimed identity")
    if not row["has_agent"]:
        raise ForbiddenError("authenticated agent does not exist")
    if not row["enabled"]:
        raise ForbiddenError("authenticated agent is disabled")
    return Caller(agent=bearer.agent, credential_id=row["credential_id"], grants=frozenset(row["grants"]))


# At most once a minute (difference 12); updated_at does not change. It skips a locked row: another statement
# is using or revoking the credential.
TOUCH_CREDENTIALS = """
update cg_credentials c
set last_used_at = cg_now()
from (
    select credential_id
    from cg_credentials
    where credential_id = any ($1) and (last_used_at is null or last_used_at < cg_now() - interval '1 minute')
    for no key update skip locked
) due
where c.credential_id = due.credential_id
"""


async def touch(database: Database, credential_ids: Iterable[str]) -> None:
    """Note the use of the credentials; a failure is logged and does not affect the request."""
    if due := list(credential_ids):
        try:
            async with asyncio.timeout(_TOUCH_SECONDS):
                await database.execute(TOUCH_CREDENTIALS, due)
        except (KernelOverloaded, TimeoutError) as trouble:
            logger.warning("the use of credentials was not noted: %r", trouble)


async def touch_used(
    database: Database, bearers: Sequence[PresentedCredential], rows: Mapping[int, Row]
) -> None:
    """Note the use of those credentials whose row, by place counted from 1, says that it is due."""
    if due := {bearers[at - 1].credential_id for at, row in rows.items() if row["is_touch_due"]}:
        await touch(database, due)
