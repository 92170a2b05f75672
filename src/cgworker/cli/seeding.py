"""Prepare a project: its admin-service in the database, and its secrets in files (admission 9)."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cgworker.cli.results import AdminService, ProjectSetup
from cgworker.errors import ProfileError
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.seed import (
    ProjectStatus,
    is_admin_credential,
    issue_admin_credential,
    new_admin_bearer,
    project_status,
    revoke_admin_credential,
    seed_project,
)
from cgworker.paths import admin_bearer_path, admin_service_path
from cgworker.private import read_secret, replace_private
from cgworker.profiles import non_blank


@frozen(kw_only=True)
class OperatorFiles:
    """The files in which a project's operator keeps its secrets.

    Attributes:
        service_credential: holds admin-service's credential.
        admin_bearer: holds the admin API's bearer.
    """

    service_credential: Path
    admin_bearer: Path

    @classmethod
    def of(
        cls, project_id: str, *, service_credential: str | None = None, admin_bearer: str | None = None
    ) -> OperatorFiles:
        """Take the files that are given, or else the project's own.

        Args:
            project_id: the project.
            service_credential: a file for admin-service's credential; None or blank is the project's own.
            admin_bearer: a file for the bearer; None or blank is the project's own.
        """
        service, bearer = non_blank(service_credential), non_blank(admin_bearer)
        return cls(
            service_credential=Path(service).expanduser() if service else admin_service_path(project_id),
            admin_bearer=Path(bearer).expanduser() if bearer else admin_bearer_path(project_id),
        )


async def seed(
    database: Database,
    project_id: str,
    files: OperatorFiles,
    *,
    rotate_credential: bool = False,
    rotate_bearer: bool = False,
) -> ProjectSetup:
    """Create what is missing of a project and its secrets, and keep what works.

    Args:
        database: the kernel's database.
        project_id: the project.
        files: the files of its operator's secrets.
        rotate_credential: replace admin-service's credential, and revoke the old one.
        rotate_bearer: replace the admin API's bearer; servers read it when they start.

    Raises:
        ConflictError: the project has another admin-service.
        ProfileError: a secret in a file does not work, and was not to be replaced.
    """
    await seed_project(database, project_id)
    await _have_credential(database, project_id, files.service_credential, rotate=rotate_credential)
    _have_bearer(files.admin_bearer, rotate=rotate_bearer)
    return await status(database, project_id, files)


async def prepare(database: Database, project_id: str, files: OperatorFiles) -> None:
    """Prepare a project for a kernel that starts from nothing.

    A credential of admin-service that this database does not know is replaced. The bearer is kept, since the
    config files of clients name it.

    Args:
        database: the kernel's database.
        project_id: the project.
        files: the files of its operator's secrets.

    Raises:
        ConflictError: the project has another admin-service.
        ProfileError: the file of the bearer cannot be used.
    """
    credential = _usable(files.service_credential)
    await seed_project(database, project_id)
    works = credential is not None and await is_admin_credential(database, project_id, credential)
    await seed(database, project_id, files, rotate_credential=not works)


async def status(database: Database, project_id: str, files: OperatorFiles) -> ProjectSetup:
    """Return how far a project is prepared.

    Args:
        database: the kernel's database.
        project_id: the project.
        files: the files of its operator's secrets.

    Raises:
        NotFoundError: the project is not seeded.
    """
    found = await project_status(database, project_id)
    if not found.seeded:
        found.require_ready()
    credential = _usable(files.service_credential)
    return ProjectSetup(
        project_id=project_id,
        seeded=found.seeded,
        matches_bootstrap_spec=found.matches_bootstrap_spec,
        mismatch_fields=found.mismatch_fields,
        admin_service=_admin_service(found),
        admin_service_credential_ready=credential is not None
        and await is_admin_credential(database, project_id, credential),
        admin_service_token_file=str(files.service_credential),
        admin_auth_ready=_usable(files.admin_bearer) is not None,
        admin_auth_token_file=str(files.admin_bearer),
    )


def _admin_service(status: ProjectStatus) -> AdminService | None:
    agent = status.admin_service
    if agent is None:
        return None
    return AdminService(
        agent_id=agent.agent.agent_id,
        role=agent.role,
        accepts_work=agent.accepts_work,
        capabilities=agent.capabilities,
        grants=agent.grants,
        public_metadata=agent.public_metadata,
    )


async def _have_credential(database: Database, project_id: str, path: Path, *, rotate: bool) -> None:
    old = _usable(path)
    if not rotate:
        if old is not None and await is_admin_credential(database, project_id, old):
            return
        _check_missing(path)
    replace_private(path, await issue_admin_credential(database, project_id) + "\n")
    if old is not None:  # last, so that a crash in between leaves two that work, not none
        await revoke_admin_credential(database, project_id, old)


def _check_missing(path: Path) -> None:
    """Refuse to replace a credential without being told to: another database may know it."""
    if path.exists():
        message = f"admin-service AgentCredential is required: the token in {path} does not work"
        raise ProfileError("admin_service_credential_required", message, status=409)


def _have_bearer(path: Path, *, rotate: bool) -> None:
    if path.exists() and not rotate:
        if _usable(path) is None:
            message = f"the admin API bearer is empty, or not yours alone (0600): {path}"
            raise ProfileError("admin_auth_token_file_invalid", message, status=409)
        return
    replace_private(path, new_admin_bearer() + "\n")


def _usable(path: Path) -> str | None:
    """Return the secret in a file, or None if it is missing, empty or readable by others."""
    try:
        return read_secret(path)
    except ProfileError:
        return None
