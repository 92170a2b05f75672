"""Profiles: which servers the command line talks to, as which agent, and with which secrets.

One JSON file holds the servers and the profiles (command line 2); the reference's `cg` reads it too. Each
secret is in a token file (mode 0600, in a folder of mode 0700), which only its owner may read: a token file
with any other mode is refused.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cgworker.errors import ProfileError
from cgworker.local_server import find_server
from cgworker.paths import home
from cgworker.private import check_private, make_private_folder, replace_private
from cgworker.wire.refs import AgentRef

DEFAULT_BASE_URL = "http://127.0.0.1:8000"


@frozen(kw_only=True)
class Profile:
    """An agent that this machine can act as. Its token is in `token_file`, never here."""

    project_id: str
    agent_id: str
    profile_kind: str | None = None
    runtime_kind: str | None = None
    display_name: str | None = None
    credential_id: str | None = None
    token_file: Path | None = None
    status: str | None = None

    @property
    def name(self) -> str:
        """`<project>/<agent>`, the profile's key in the config file."""
        return f"{self.project_id}/{self.agent_id}"

    @property
    def agent(self) -> AgentRef:
        """The agent that the profile acts as."""
        return AgentRef(project_id=self.project_id, agent_id=self.agent_id)


@frozen(kw_only=True)
class TokenSource:
    """A token, or the file that holds it."""

    token: str | None = field(default=None, repr=False)
    token_file: str | None = None


@frozen(kw_only=True)
class Config:
    """The content of the config file; None stands for a missing setting."""

    base_url: str | None = None
    admin_base_url: str | None = None
    auth: TokenSource = TokenSource()
    admin_auth: TokenSource = TokenSource()
    caller_project_id: str | None = None
    caller_agent_id: str | None = None
    profiles: Mapping[str, Profile] = field(factory=dict)
    ca_file: str | None = None

    def profile(self, name: str) -> Profile:
        """Return the profile of that name.

        Args:
            name: `<project>/<agent>`.

        Raises:
            ProfileError: profile_missing.
        """
        try:
            return self.profiles[name]
        except KeyError:
            raise ProfileError("profile_missing", f"CLI profile not found: {name}", status=404) from None


@frozen(kw_only=True)
class KernelAccess:
    """The settings for calling a kernel as an agent."""

    base_url: str
    agent: AgentRef
    token: str = field(repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None


def resolve_profile(
    name: str, *, config_path: str | Path | None = None, environ: Mapping[str, str] = os.environ
) -> KernelAccess:
    """Return the access to the kernel that a profile stands for.

    Args:
        name: `<project>/<agent>`, as `cg agent join` made it.
        config_path: the config file; None looks where `cg` does.
        environ: the environment, in which CG_CONFIG_PATH, CG_BASE_URL and CG_CA_FILE take precedence over
            the file.

    Raises:
        ProfileError: profile_missing, profile_stale, profile_token_permissions, or the config file is
            invalid_json or invalid_input.
        OSError: a file is there but cannot be read.
    """
    config = ConfigFile.locate(config_path, environ).read()
    profile = config.profile(name)
    return KernelAccess(
        base_url=kernel_url_of(config, profile.project_id, environ),
        agent=profile.agent,
        token=read_profile_token(profile),
        token_file=profile.token_file,
        ca_file=ca_file_of(config, environ),
    )


def kernel_url_of(
    config: Config, project_id: str | None = None, environ: Mapping[str, str] = os.environ
) -> str:
    """Return the kernel's address: CG_BASE_URL, else the config's, else that of `cg local run`.

    Args:
        config: the content of the config file.
        project_id: the project whose local server is looked for; None looks for none.
        environ: the environment.
    """
    chosen = non_blank(environ.get("CG_BASE_URL")) or config.base_url
    if chosen is None and project_id is not None:
        chosen = find_server(project_id)
    return chosen or DEFAULT_BASE_URL


def ca_file_of(config: Config, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of trusted certificate authorities: CG_CA_FILE, else the config's.

    Args:
        config: the content of the config file.
        environ: the environment.
    """
    chosen = non_blank(environ.get("CG_CA_FILE")) or config.ca_file
    return Path(chosen).expanduser() if chosen else None


# ---------------------------------------------------------------- the config file


class ConfigFile:
    """The config file. Unknown settings are kept when it is rewritten.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def locate(cls, path: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> ConfigFile:
        """Return the given file, else CG_CONFIG_PATH, else `~/.config/commonground/config.json`.

        Args:
            path: the file; None looks in the environment.
            environ: the environment.
        """
        chosen = non_blank(str(path)) if path is not None else non_blank(environ.get("CG_CONFIG_PATH"))
        if chosen is None:
            return cls(home() / ".config" / "commonground" / "config.json")
        return cls(Path(chosen).expanduser())

    def read(self) -> Config:
        """Return the content; a file that does not exist is empty.

        Raises:
            ProfileError: invalid_json or invalid_input.
        """
        with self._named_if_broken():
            return _config_of(self._load())

    def update(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the file under its lock; readers see the old or the new file, never a part.

        Args:
            change: changes the file's whole content, which it is given, in place.
        """
        make_private_folder(self.path.parent)
        with _locked(self.path):
            with self._named_if_broken():
                content = self._load()
                change(content)
                _config_of(content)
            replace_private(self.path, json.dumps(content, indent=2, sort_keys=True) + "\n")

    def save_profile(self, profile: Profile) -> None:
        """Add the profile, or replace the one of the same name.

        Args:
            profile: the profile.
        """
        entry = {
            "project_id": profile.project_id,
            "agent_id": profile.agent_id,
            "profile_kind": profile.profile_kind,
            "runtime_kind": profile.runtime_kind,
            "display_name": profile.display_name,
            "credential_id": profile.credential_id,
            "token_file": str(profile.token_file),
            "status": profile.status,
        }

        def add(content: dict[str, Any]) -> None:
            content["profiles"] = {**(content.get("profiles") or {}), profile.name: entry}

        self.update(add)

    @contextmanager
    def _named_if_broken(self) -> Iterator[None]:
        """Note on a ProfileError which file is broken; its message is the same whatever the file's name."""
        try:
            yield
        except ProfileError as broken:
            broken.add_note(f"The config file is {self.path}: mend it, or move it away and join again.")
            raise

    def _load(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as broken:
            raise ProfileError("invalid_json", str(broken), status=422) from broken
        except RecursionError as broken:
            raise _invalid("CLI config is nested too deeply") from broken
        except UnicodeDecodeError as broken:
            raise _invalid(f"CLI config is not UTF-8: {self.path}") from broken
        if not isinstance(content, dict):
            raise _invalid("CLI config must be a JSON object")
        return content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `<path>.lock`, a file of its own because the config file is replaced, not rewritten."""
    with (path.parent / f"{path.name}.lock").open("a") as lock:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _config_of(content: Mapping[str, Any]) -> Config:
    auth, admin_auth, caller, profiles = (
        _section(content, name) for name in ("auth", "admin_auth", "caller", "profiles")
    )
    return Config(
        base_url=_text(content, "base_url"),
        admin_base_url=_text(content, "admin_base_url"),
        auth=TokenSource(token=_text(auth, "token"), token_file=_text(auth, "token_file")),
        admin_auth=TokenSource(token=_text(admin_auth, "token"), token_file=_text(admin_auth, "token_file")),
        caller_project_id=_text(caller, "project_id"),
        caller_agent_id=_text(caller, "agent_id"),
        profiles={name: _profile_of(profiles, name) for name in profiles},
        ca_file=_text(content, "ca_file"),
    )


def _profile_of(profiles: Mapping[str, Any], name: str) -> Profile:
    entry = _section(profiles, name)
    project_id, agent_id = _text(entry, "project_id"), _text(entry, "agent_id")
    if project_id is None or agent_id is None:
        raise _invalid("CLI config profiles require project_id and agent_id")
    token_file = _text(entry, "token_file")
    return Profile(
        project_id=project_id,
        agent_id=agent_id,
        profile_kind=_text(entry, "profile_kind"),
        runtime_kind=_text(entry, "runtime_kind"),
        display_name=_text(entry, "display_name"),
        credential_id=_text(entry, "credential_id"),
        token_file=None if token_file is None else Path(token_file).expanduser(),
        status=_text(entry, "status"),
    )


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise _invalid(f"CLI config {name} must be an object")
    return section


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        raise _invalid("CLI config values must be strings when provided")
    return non_blank(value)


def non_blank(value: str | None) -> str | None:
    """Return the value trimmed, or None if it is blank: flags, variables and settings may be empty.

    Args:
        value: the value.
    """
    return (value or "").strip() or None


def _invalid(message: str) -> ProfileError:
    return ProfileError("invalid_input", message, status=422)


# ---------------------------------------------------------------- token files


def read_profile_token(profile: Profile) -> str:
    """Return the profile's token.

    Args:
        profile: the profile.

    Raises:
        ProfileError: profile_token_permissions, or profile_stale when the file is gone or empty.
    """
    try:
        if profile.token_file is None:
            raise FileNotFoundError
        check_private(profile.token_file)
        token = non_blank(profile.token_file.read_text("utf-8"))
    except FileNotFoundError:
        raise _stale(f"CLI profile token file is missing: {profile.name}") from None
    if token is None:
        raise _stale(f"CLI profile token file is empty: {profile.name}")
    return token


def _stale(message: str) -> ProfileError:
    return ProfileError("profile_stale", message, status=401)
