"""Seed a project: create its `admin-service` agent and the agent's credential (admission 9).

The caller keeps the tokens.
"""

from __future__ import annotations

import secrets

from attrs import frozen

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.agent_specs import check_new_id
from cgworker.kernel.store.agents import GET_AGENT, snapshot_of
from cgworker.kernel.store.credentials import REVOKE_CREDENTIAL, TOKEN, issue_credential
from cgworker.kernel.store.ids import hash_of
from cgworker.kernel.store.moves import require_not_moved
from cgworker.kernel.store.postgres.database import Connection, Database
from cgworker.wire.agents import AgentSnapshot, AgentSpec
from cgworker.wire.converter import dumps, loads
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef

ADMIN_SERVICE = AgentSpec(
    agent_id="admin-service",
    role="service.admin.v1",
    accepts_work=False,
    grants=("agent.credential.issue.any", "agent.credential.revoke.any", "agent.registration.birth"),
    public_metadata={"service": {"kind": "admin_service", "version": "v1"}},
)
"""The agent in whose name a project admits other agents."""

_CREDENTIAL = "operator.project_setup.admin_service_credential.v1"
_COMPARED = (
    "role",
    "description",
    "enabled",
    "accepts_work",
    "capacity",
    "capabilities",
    "grants",
    "public_metadata",
)


@frozen(kw_only=True)
class ProjectStatus:
    """The state of a project's seed. `mismatch_fields` are those in which its admin-service differs."""

    project_id: str
    admin_service: AgentSnapshot | None
    mismatch_fields: tuple[str, ...] = ()

    @property
    def seeded(self) -> bool:
        """True if the project has its admission service."""
        return self.admin_service is not None

    @property
    def matches_bootstrap_spec(self) -> bool:
        """True if the admission service is as seeding would make it."""
        return self.seeded and not self.mismatch_fields

    def require_ready(self) -> None:
        """Raise unless the project can admit agents.

        Raises:
            NotFoundError: project_not_seeded.
            ConflictError: project_bootstrap_conflict.
        """
        if not self.seeded:
            raise NotFoundError(f"project is not seeded: {self.project_id}", code="project_not_seeded")
        if self.mismatch_fields:
            fields = ", ".join(self.mismatch_fields)
            raise ConflictError(
                f"project admin-service bootstrap conflict: {fields}", code="project_bootstrap_conflict"
            )


def admin_service_of(project_id: str) -> AgentRef:
    """Return the reference of a project's admin-service."""
    return AgentRef(project_id=project_id, agent_id=ADMIN_SERVICE.agent_id)


async def project_status(database: Database | Connection, project_id: str) -> ProjectStatus:
    """Return the state of a project's seed."""
    row = await database.fetchrow(GET_AGENT, project_id, ADMIN_SERVICE.agent_id)
    if row is None:
        return ProjectStatus(project_id=project_id, admin_service=None)
    found = snapshot_of(row)
    metadata = {"public_metadata": loads(row["public_metadata"])}
    differing = tuple(
        name for name in _COMPARED if metadata.get(name, getattr(found, name)) != getattr(ADMIN_SERVICE, name)
    )
    return ProjectStatus(project_id=project_id, admin_service=found, mismatch_fields=differing)


HAS_PROJECTS = "select exists (select from cg_projects)"


async def has_projects(database: Database) -> bool:
    """Whether there is any project."""
    found: bool = await database.fetchval(HAS_PROJECTS)
    return found


SEED_PROJECT = """
with project as (
    insert into cg_projects (project_id) values ($1) on conflict do nothing
)
insert into cg_agents (project_id, agent_id, role, enabled, accepts_work, capacity, capabilities, grants,
    public_metadata)
values ($1, $2, $3, true, false, 1, '{}', $4, $5::json)
on conflict do nothing
"""


async def seed_project(database: Database, project_id: str) -> ProjectStatus:
    """Create the project and its admin-service if they do not exist, without an event.

    Raises:
        InvalidRequest: the project's id cannot be addressed (difference 11).
        ConflictError: project_bootstrap_conflict, the admin-service exists with other values; or the project
            has moved to another database.
    """
    check_new_id(project_id, at=("project_id",))
    await require_not_moved(database, project_id)
    await database.execute(
        SEED_PROJECT,
        project_id,
        ADMIN_SERVICE.agent_id,
        ADMIN_SERVICE.role,
        ADMIN_SERVICE.grants,
        dumps(ADMIN_SERVICE.public_metadata).decode(),
    )
    status = await project_status(database, project_id)
    status.require_ready()
    return status


# ---------------------------------------------------------------- the credential of admin-service


async def issue_admin_credential(database: Database, project_id: str) -> str:
    """Issue a credential for the project's admin-service; return its token, which is not stored."""
    issued = await issue_credential(
        database,
        admin_service_of(project_id),
        IssueCredential(provenance_kind=_CREDENTIAL, provenance_ref=project_id),
        issued_by=None,
    )
    return issued.token


IS_ADMIN_CREDENTIAL = """
select exists (
    select from cg_credentials
    where credential_id = $1 and secret_hash = $2 and project_id = $3 and agent_id = $4
        and status = 'active' and (expires_at is null or expires_at > cg_now())
)
"""


async def is_admin_credential(database: Database, project_id: str, token: str) -> bool:
    """Whether a token is a valid credential of the project's admin-service."""
    parts = TOKEN.match(token)
    if parts is None:
        return False
    secret_hash = hash_of(parts["secret"])
    works: bool = await database.fetchval(
        IS_ADMIN_CREDENTIAL, parts["credential_id"], secret_hash, project_id, ADMIN_SERVICE.agent_id
    )
    return works


async def revoke_admin_credential(database: Database, project_id: str, token: str) -> None:
    """Revoke the credential of a token, if it is one of the project's admin-service."""
    if parts := TOKEN.match(token):
        await database.execute(REVOKE_CREDENTIAL, parts["credential_id"], project_id, ADMIN_SERVICE.agent_id)


def new_admin_bearer() -> str:
    """Create a bearer token for a project's admin API."""
    return secrets.token_urlsafe(32)
