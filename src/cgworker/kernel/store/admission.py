"""Admission: register an agent and issue its credential, all or nothing (admission 7, difference 13).

Everything happens in one transaction on the kernel's own store, so a crash leaves nothing to resume. A
repeated request gives the agent another credential.
"""

from __future__ import annotations

from attrs import asdict

from cgworker.errors import ConflictError, ForbiddenError
from cgworker.kernel.store.admission_profiles import Admission, check_policy, registration_of
from cgworker.kernel.store.agents import get_agent, register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.ids import digest, hash_of
from cgworker.kernel.store.invites import admission_of, find_usable_invite, use_invite
from cgworker.kernel.store.postgres.database import Connection, Database
from cgworker.kernel.store.seed import admin_service_of, project_status
from cgworker.wire.admission import Admitted, AdmittedProfile, Joined
from cgworker.wire.converter import unstructure
from cgworker.wire.credentials import IssueCredential, IssuedCredential
from cgworker.wire.refs import AgentRef

_CREDENTIAL = "admin_service.byoa_agent_credential.v1"


async def admit(database: Database, admission: Admission) -> Admitted:
    """Admit an agent; a repeat of the same request gives it another credential.

    Raises:
        NotFoundError, ConflictError: the project is not ready, the policy refuses, or another request has
            this request's id or agent.
    """
    (await project_status(database, admission.project_id)).require_ready()
    check_policy(admission)
    issued = await database.transact(lambda connection: _admit(connection, admission, readmits=False))
    return _admitted(admission, issued)


async def redeem_invite(database: Database, project_id: str, code: str) -> Joined:
    """Admit the agent of an invite's code; each use gives a new credential.

    An agent that was admitted with the same kind of profile before may join again, for example because it
    lost its credential.

    Args:
        database: the kernel's database.
        project_id: the one project that is admitted to.
        code: the code of an invite.

    Raises:
        ForbiddenError: the code gives no right to join.
        NotFoundError, ConflictError: as `admit`.
    """
    invite = await find_usable_invite(database, code)
    require_project(invite["project_id"], project_id)
    (await project_status(database, project_id)).require_ready()
    admission = admission_of(invite)

    async def join(connection: Connection) -> Joined:
        issued = await _admit(connection, admission, readmits=True)
        used = await use_invite(connection, code, invite["invite_id"])
        return Joined(**asdict(_admitted(admission, issued), recurse=False), invite=used)

    return await database.transact(join)


def require_project(asked: str, admitted: str) -> None:
    """Raise ForbiddenError unless the project is the one of this admission service."""
    if asked != admitted:
        raise ForbiddenError("BYOA registration requester is not authorized for project")


async def _admit(connection: Connection, admission: Admission, *, readmits: bool) -> IssuedCredential:
    agent = AgentRef(project_id=admission.project_id, agent_id=admission.agent_id)
    if await _is_new(connection, admission):
        await _register(connection, admission)
    else:
        await _check_repeat(connection, admission, readmits=readmits)
    registered = await get_agent(connection, agent)
    request = IssueCredential(
        provenance_kind=_CREDENTIAL,
        provenance_ref=admission.request_id,
        provenance_payload_hash=registered.registration_provenance_payload_hash,
    )
    issuer = admin_service_of(admission.project_id).agent_id
    return await issue_credential(connection, agent, request, issued_by=issuer)


INSERT_ADMISSION = """
insert into cg_admissions (project_id, agent_id, request_id, request_hash, request_digest, profile_kind)
values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
returning agent_id
"""


async def _is_new(connection: Connection, admission: Admission) -> bool:
    inserted = await connection.fetchval(
        INSERT_ADMISSION,
        admission.project_id,
        admission.agent_id,
        admission.request_id,
        hash_of(admission.request_id),
        digest(unstructure(admission)),
        admission.profile_kind,
    )
    return inserted is not None


async def _register(connection: Connection, admission: Admission) -> None:
    spec, provenance = registration_of(admission)
    try:
        await register_agent(connection, admin_service_of(admission.project_id), spec, provenance)
    except ConflictError as taken:
        raise ConflictError("BYOA registration did not complete: conflict_requires_review") from taken


# Arrays make PostgreSQL find each by its whole key, whatever it knows of the table.
FIND_ADMISSIONS = """
select agent_id, request_hash, request_digest, profile_kind
from cg_admissions
where project_id = $1 and request_hash = any (array(select $2::bytea))
union
select agent_id, request_hash, request_digest, profile_kind
from cg_admissions
where project_id = $1 and agent_id = any (array(select $3::text))
"""


async def _check_repeat(connection: Connection, admission: Admission, *, readmits: bool) -> None:
    request_hash = hash_of(admission.request_id)
    rows = await connection.fetch(FIND_ADMISSIONS, admission.project_id, request_hash, admission.agent_id)
    repeated = [row for row in rows if row["request_hash"] == request_hash]
    if not repeated:
        if readmits and rows[0]["profile_kind"] == admission.profile_kind:
            return
        whose = f"{admission.project_id}/{admission.agent_id}"
        raise ConflictError(f"BYOA request already exists for project/agent: {whose}")
    if repeated[0]["request_digest"] != digest(unstructure(admission)):
        raise ConflictError(f"BYOA request idempotency conflict: {admission.request_id}")


def _admitted(admission: Admission, issued: IssuedCredential) -> Admitted:
    credential_id = issued.credential.credential_id
    return Admitted(
        request_id=admission.request_id,
        project_id=admission.project_id,
        agent_id=admission.agent_id,
        profile=AdmittedProfile(
            project_id=admission.project_id,
            agent_id=admission.agent_id,
            runtime_kind=admission.runtime_kind,
            profile_kind=admission.profile_kind,
            profile_ref=(
                f"admin_service/byoa_registration_requests/{admission.request_id}/connection-profile"
            ),
            credential_id=credential_id,
        ),
        credential={"credential_id": credential_id, "status": issued.credential.status},
        agent_credential_token=issued.token,
    )
