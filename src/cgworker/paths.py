"""Where cgworker keeps what, below the user's home folder."""

from __future__ import annotations

from pathlib import Path

from cgworker.errors import ProfileError, UsageError


def home() -> Path:
    """The user's home folder.

    Raises:
        UsageError: there is none, and how to name one.
    """
    try:
        return Path.home()
    except RuntimeError:
        what = "HOME is not set, and this user has no entry in the password file"
        raise UsageError(
            f"there is no home folder: {what}; set HOME, or CG_CONFIG_PATH for the config"
        ) from None


def credentials_folder() -> Path:
    """Where the tokens of credentials are kept."""
    return _data_folder() / "credentials"


def credential_path(project_id: str, agent_id: str, credential_id: str) -> Path:
    """Where the token of an agent's credential belongs."""
    folder = credentials_folder() / _name(project_id) / _name(agent_id)
    return folder / f"{_name(credential_id)}.token"


def admin_service_path(project_id: str) -> Path:
    """Where the operator of a project keeps the credential of its `admin-service` (admission 9)."""
    return _operator_folder(project_id) / "admin-service.cgac"


def admin_bearer_path(project_id: str) -> Path:
    """Where the operator of a project keeps the bearer of its admin API (admission 9)."""
    return _operator_folder(project_id) / "admin-api-bearer.token"


def local_server_path(project_id: str) -> Path:
    """Where `cg local run` says at which address it serves a project, on this machine."""
    return local_servers_folder() / _name(project_id)


def local_servers_folder() -> Path:
    """Where each `cg local run` of this machine has a file, named after its project."""
    return home() / ".local" / "share" / "cgworker" / "servers"


def _operator_folder(project_id: str) -> Path:
    return _data_folder().joinpath("operator", "projects", _name(project_id))


def _data_folder() -> Path:
    return home() / ".local" / "share" / "commonground"


def _name(text: str) -> str:
    """An id that is safe as the name of a file."""
    if text in ("", ".", "..") or "/" in text or "\\" in text or "\0" in text:
        message = f"an id that names a file must not be empty, dots or contain path separators: {text!r}"
        raise ProfileError("invalid_input", message, status=422)
    return text
