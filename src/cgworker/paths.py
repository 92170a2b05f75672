"""The paths of the files that cgworker keeps below the user's home folder."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from cgworker.errors import ProfileError, UsageError


def home() -> Path:
    """Return the user's home folder.

    Raises:
        UsageError: there is none; the message says how to name one.
    """
    try:
        return Path.home()
    except RuntimeError:
        what = "HOME is not set, and this user has no entry in the password file"
        raise UsageError(
            f"there is no home folder: {what}; set HOME, or CG_CONFIG_PATH for the config"
        ) from None


def state_folder(name: str) -> Path:
    """Return the folder `name` below `$XDG_STATE_HOME/cgworker`, or below `~/.local/state/cgworker`.

    Args:
        name: the folder's name.

    Raises:
        UsageError: XDG_STATE_HOME is not set, and there is no home folder.
    """
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state, "cgworker", name)
    return _state_folder_below(os.path.expanduser("~"), name)  # noqa: PTH111  # a key of the cache


@lru_cache(maxsize=64)  # each turn of a command asks
def _state_folder_below(_home: str, name: str) -> Path:
    return _state_home() / ".local" / "state" / "cgworker" / name


def _state_home() -> Path:
    """Return the home folder. A missing one is not made: it is a placeholder, such as `/nonexistent`."""
    try:
        home = Path.home()
        what = None if home.is_dir() else f"the home folder {home} does not exist"
    except RuntimeError:
        what = "HOME is not set, and this user has no entry in the password file"
    if what is not None:
        raise UsageError(f"there is no folder for a worker's state: {what}; set XDG_STATE_HOME to one")
    return home


def credentials_folder() -> Path:
    """Return the folder of the tokens of credentials."""
    return _data_folder() / "credentials"


def credential_path(project_id: str, agent_id: str, credential_id: str) -> Path:
    """Return the path of the token of an agent's credential."""
    folder = credentials_folder() / _name(project_id) / _name(agent_id)
    return folder / f"{_name(credential_id)}.token"


def admin_service_path(project_id: str) -> Path:
    """Return the path of the credential of a project's `admin-service`, for its operator (admission 9)."""
    return _operator_folder(project_id) / "admin-service.cgac"


def admin_bearer_path(project_id: str) -> Path:
    """Return the path of the bearer of a project's admin API, for its operator (admission 9)."""
    return _operator_folder(project_id) / "admin-api-bearer.token"


def local_server_path(project_id: str) -> Path:
    """Return the path of the file in which `cg local run` writes the address at which it serves a project."""
    return local_servers_folder() / _name(project_id)


def local_servers_folder() -> Path:
    """Return the folder of the files that `cg local run` writes, each named after its project."""
    return home() / ".local" / "share" / "cgworker" / "servers"


def dev_database_folder() -> Path:
    """Return the folder of the embedded PostgreSQL of `cg dev`."""
    return _data_folder() / "dev" / "postgres"


def _operator_folder(project_id: str) -> Path:
    return _data_folder().joinpath("operator", "projects", _name(project_id))


def _data_folder() -> Path:
    return home() / ".local" / "share" / "commonground"


def _name(text: str) -> str:
    """Return the id if it is safe as a file name."""
    if text in ("", ".", "..") or "/" in text or "\\" in text or "\0" in text:
        message = f"an id that names a file must not be empty, dots or contain path separators: {text!r}"
        raise ProfileError("invalid_input", message, status=422)
    return text
