"""Join invites: codes that each let one agent join (admission 5, difference 13)."""

from __future__ import annotations

import secrets

from cgworker.errors import ConflictError, ForbiddenError, NotFoundError
from cgworker.kernel.store.admission_profiles import Admission
from cgworker.kernel.store.agent_specs import MAX_INTEGER, check_at_most, check_new_id, normal_set, require
from cgworker.kernel.store.ids import hash_of
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.wire.absent import ABSENT
from cgworker.wire.admission import WORKER_PROFILE, CreatedInvite, CreateInvite, Invite

MAX_INVITE_SECONDS = 100 * 365 * 86400
"""The longest validity in seconds; a later end could not be stored."""


def invite_of(row: Row) -> Invite:
    """Convert a row of cg_invites to an invite."""
    return Invite(
        invite_id=row["invite_id"],
        project_id=row["project_id"],
        agent_id=row["agent_id"],
        profile_kind=row["profile_kind"],
        runtime_kind=row["runtime_kind"],
        display_name=row["display_name"],
        description=row["description"],
        issued_by_user_id=row["issued_by_user_id"],
        expires_at=row["expires_at"],
        single_use=row["max_uses"] == 1,
        max_uses=row["max_uses"],
        use_count=row["use_count"],
        disabled=row["disabled_at"] is not None,
        last_redeemed_at=row["last_redeemed_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def admission_of(row: Row) -> Admission:
    """Return the admission that an invite stands for."""
    return Admission(
        request_id=row["request_id"],
        project_id=row["project_id"],
        agent_id=row["agent_id"],
        display_name=row["display_name"],
        runtime_kind=row["runtime_kind"],
        profile_kind=row["profile_kind"],
        description=row["description"],
        capacity=row["capacity"],
        grants=tuple(row["grants"]),
        approved_by=row["issued_by_user_id"],
        invite_id=row["invite_id"],
    )


# ---------------------------------------------------------------- making, listing, revoking


CREATE_INVITE = """
insert into cg_invites (invite_id, project_id, agent_id, request_id, code_hash, profile_kind, runtime_kind,
    display_name, description, capacity, grants, issued_by_user_id, expires_at, max_uses)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, cg_now() + make_interval(secs => $13), $14)
returning *
"""

AGENT_EXISTS = "select exists (select from cg_agents where project_id = $1 and agent_id = $2)"


async def create_invite(
    database: Database, project_id: str, request: CreateInvite, *, issued_by: str
) -> CreatedInvite:
    """Create an invite. Whether the agent's id is free is checked only when the invite is redeemed.

    Raises:
        InvalidRequest: no agent can be registered with these values (difference 11).
        ConflictError: a field is out of bounds; or capacity or grants are given for an existing agent, which
            an invite gives a new credential and nothing else.
    """
    _check_invite(request)
    capacity = 1 if request.capacity is ABSENT else request.capacity
    grants = () if request.grants is ABSENT else normal_set(request.grants)
    is_plain = request.capacity is ABSENT and request.grants is ABSENT
    if not is_plain and await database.fetchval(AGENT_EXISTS, project_id, request.agent_id):
        raise ConflictError(f"agent already exists: {request.agent_id}; update its capacity and grants")
    code = f"cgjoin_{secrets.token_urlsafe(24)}"
    row = await database.fetchrow(
        CREATE_INVITE,
        f"aginv_{secrets.token_urlsafe(12)}",
        project_id,
        request.agent_id,
        f"agjoinreq_{secrets.token_urlsafe(18)}",
        hash_of(code),
        request.profile_kind,
        request.runtime_kind,
        request.display_name or _title_of(request.agent_id),
        request.description,
        capacity,
        grants,
        issued_by,
        float(request.expires_in_seconds),
        request.max_uses or 1,
    )
    assert row is not None
    return CreatedInvite(invite=invite_of(row), join_code=code)


def _check_invite(request: CreateInvite) -> None:
    is_worker = request.profile_kind == WORKER_PROFILE
    require(is_worker, "Agent join invite currently supports conversation worker profiles only")
    check_new_id(request.agent_id, at=("body", "agent_id"))
    _check_count(request.expires_in_seconds, "expires_in_seconds", MAX_INVITE_SECONDS)
    if request.max_uses is not None:
        _check_count(request.max_uses, "max_uses", MAX_INTEGER)
    if request.capacity is not ABSENT:
        _check_count(request.capacity, "capacity", MAX_INTEGER)
    if request.grants is not ABSENT:
        require(all(request.grants), "grants must contain non-empty strings")


def _check_count(count: int, name: str, most: int) -> None:
    require(count > 0, f"{name} must be a positive integer")
    check_at_most(count, most, at=("body", name))


def _title_of(agent_id: str) -> str:
    return agent_id.replace("-", " ").replace("_", " ").title()


LIST_INVITES = "select * from cg_invites where project_id = $1 order by created_at desc, invite_id"


async def list_invites(database: Database, project_id: str) -> tuple[Invite, ...]:
    """List all invites of a project, newest first."""
    return tuple(invite_of(row) for row in await database.fetch(LIST_INVITES, project_id))


REVOKE_INVITE = """
update cg_invites
set disabled_at = coalesce(disabled_at, cg_now()),
    updated_at = case when disabled_at is null then cg_now() else updated_at end
where project_id = $1 and invite_id = $2
returning *
"""


async def revoke_invite(database: Database, project_id: str, invite_id: str) -> Invite:
    """Revoke an invite; its credentials stay valid. A repeat changes nothing.

    Raises:
        NotFoundError: there is no such invite.
    """
    row = await database.fetchrow(REVOKE_INVITE, project_id, invite_id)
    if row is None:
        raise NotFoundError(f"Agent join invite not found: {invite_id}")
    return invite_of(row)


# ---------------------------------------------------------------- redeeming


FIND_INVITE = "select *, expires_at <= cg_now() as is_expired from cg_invites where code_hash = $1"

USE_INVITE = """
update cg_invites
set use_count = use_count + 1, last_redeemed_at = cg_now(), updated_at = cg_now()
where invite_id = $1 and disabled_at is null and expires_at > cg_now() and use_count < max_uses
returning *
"""


async def find_usable_invite(database: Database | Connection, code: str) -> Row:
    """Return the invite of a code, without locking it.

    Raises:
        ForbiddenError: the code is unknown, or its invite disabled, expired or used up.
    """
    row = await database.fetchrow(FIND_INVITE, hash_of(code))
    if row is None:
        raise ForbiddenError("Agent join code is invalid", code="join_code_invalid")
    if row["disabled_at"] is not None:
        raise ForbiddenError("Agent join code is disabled", code="join_code_disabled")
    if row["is_expired"]:
        raise ForbiddenError("Agent join code is expired", code="join_code_expired")
    if row["use_count"] >= row["max_uses"]:
        raise ForbiddenError("Agent join code has already been redeemed", code="join_code_used")
    return row


async def use_invite(connection: Connection, code: str, invite_id: str) -> Invite:
    """Count a use. Call it last in the transaction of the admission, since it locks the invite's row.

    Raises:
        ForbiddenError: the invite was used up or revoked meanwhile.
    """
    row = await connection.fetchrow(USE_INVITE, invite_id)
    if row is None:
        await find_usable_invite(connection, code)
        raise ForbiddenError("Agent join code has already been redeemed", code="join_code_used")
    return invite_of(row)
