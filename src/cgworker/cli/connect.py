"""Make a client from flags, environment and config file: its server, its agent and its token.

The order of precedence is that of command line 2, and no other module decides it.
"""

from __future__ import annotations

import os
from pathlib import Path

from cgworker.cli.identity import caller_project, only_profile
from cgworker.cli.options import AdminFlags, CallerFlags, KernelFlags, OperatorFlags, ServerFlags
from cgworker.client import AdmissionClient, KernelClient
from cgworker.errors import ProfileError, UsageError
from cgworker.paths import admin_bearer_path, admin_service_path
from cgworker.private import check_private, read_secret
from cgworker.profiles import (
    Config,
    ConfigFile,
    Profile,
    TokenSource,
    ca_file_of,
    kernel_url_of,
    non_blank,
    read_profile_token,
)
from cgworker.wire.refs import AgentRef

ADMIN_SERVICE = "admin-service"
"""The agent that registers agents and issues credentials in every project (admission 9)."""

_NO_TOKEN = "agent credential token is required when claimed agent identity is set"


# ---------------------------------------------------------------- a kernel, as an agent


def as_actor(server: KernelFlags, actor: AgentRef) -> KernelClient:
    """Make a client for the agent that acts. Without --profile, the profile with its name is used.

    Args:
        server: the flags.
        actor: the agent.

    Raises:
        ProfileError: there is neither a profile nor a token for the agent.
        UsageError: --profile names another agent.
    """
    config = ConfigFile.locate(server.config).read()
    profile = _profile_given(server, config, actor) or config.profiles.get(str(actor))
    if profile is None and (token := _direct_token(server, config)) is not None:
        return _client(server, config, actor, token, _direct_file(server, config))
    return _as_profile(server, config, profile or config.profile(str(actor)))


def as_claim_holder(server: ServerFlags, agent: AgentRef) -> KernelClient:
    """Make a client for the agent that holds a claim. A profile or token must be given (command line 2.1).

    Args:
        server: the flags.
        agent: the agent.

    Raises:
        UsageError: no profile and no token is given, or --profile names another agent.
        ProfileError: the profile cannot be used.
    """
    config = ConfigFile.locate(server.config).read()
    profile = _profile_given(server, config, agent)
    if profile is not None:
        return _as_profile(server, config, profile)
    if (token := _direct_token(server, config)) is None:
        raise UsageError(_NO_TOKEN)
    return _client(server, config, agent, token, _direct_file(server, config))


def as_reader(server: ServerFlags, caller: CallerFlags, project_id: str | None = None) -> KernelClient:
    """Make a client for a command that only reads.

    Without --profile and token the only profile is used. If there are several, the kernel answers 401.

    Args:
        server: the flags.
        caller: names the agent that --auth-token belongs to.
        project_id: the project that is read, whose only profile is used; None takes any.

    Raises:
        UsageError: an agent is named without a token, or the flags contradict each other.
        ProfileError: the profile cannot be used.
    """
    config = ConfigFile.locate(server.config).read()
    name = non_blank(server.profile)
    if name is not None:
        profile = config.profile(name)
        _check_caller_is(profile, caller)
        return _as_profile(server, config, profile)
    agent, token = _caller(caller, config), _direct_token(server, config)
    if agent is not None and token is None:
        raise UsageError(_NO_TOKEN)
    if token is None and (found := only_profile(server, config, project_id)) is not None:
        return _as_profile(server, config, found)
    return _client(server, config, agent, token, _direct_file(server, config))


def as_admin_service(operator: OperatorFlags, project_id: str) -> KernelClient:
    """Make a client for the project's admin-service, with the credential that the operator keeps.

    Args:
        operator: the flags; --profile names another agent to act as.
        project_id: the project.

    Raises:
        ProfileError: the credential's file is not private, or the profile cannot be used.
        FileNotFoundError: there is no such file.
    """
    config = ConfigFile.locate(operator.config).read()
    if name := non_blank(operator.profile):
        profile = config.profile(name)
        return _as_profile(operator, config, profile)
    file = non_blank(operator.admin_service_token_file)
    path = Path(file).expanduser() if file else admin_service_path(project_id)
    check_private(path)
    agent = AgentRef(project_id=project_id, agent_id=ADMIN_SERVICE)
    return _client(operator, config, agent, non_blank(path.read_text("utf-8")), path)


def kernel_url(base_url: str | None, config_path: str | None, project_id: str | None = None) -> str:
    """Return the kernel's address.

    Args:
        base_url: the value of --base-url, if it is given.
        config_path: the value of --config, if it is given.
        project_id: finds the `cg local run` of that project first; None finds any.

    Raises:
        ProfileError: the config file is broken.
    """
    return _kernel_url(base_url, ConfigFile.locate(config_path).read(), project_id)


def _as_profile(server: KernelFlags | OperatorFlags, config: Config, profile: Profile) -> KernelClient:
    return _client(server, config, profile.agent, read_profile_token(profile), profile.token_file)


def _client(
    server: KernelFlags | OperatorFlags,
    config: Config,
    agent: AgentRef | None,
    token: str | None,
    token_file: Path | None,
) -> KernelClient:
    return KernelClient(
        _kernel_url(server.base_url, config, agent.project_id if agent else None),
        agent=agent,
        token=token,
        token_file=token_file,
        ca_file=authorities(server.ca_file, config),
    )


def authorities(ca_file: str | None, config: Config) -> str | Path | None:
    """Return the file with the trusted certificate authorities, or None for those of the system."""
    return non_blank(ca_file) or ca_file_of(config)


def _kernel_url(base_url: str | None, config: Config, project_id: str | None) -> str:
    return non_blank(base_url) or kernel_url_of(config, project_id)


def _profile_given(server: KernelFlags, config: Config, actor: AgentRef) -> Profile | None:
    name = non_blank(server.profile) if isinstance(server, ServerFlags) else None
    if name is None:
        return None
    profile = config.profile(name)
    if profile.agent != actor:
        raise UsageError("profile does not match command actor")
    return profile


def _direct_token(server: KernelFlags, config: Config) -> str | None:
    return _first_token(_flags_of(server), "CG_AGENT_CREDENTIAL_TOKEN", config.auth)


def _direct_file(server: KernelFlags, config: Config) -> Path | None:
    """Return the file that holds the token, if a file does."""
    return _first_file(_flags_of(server), "CG_AGENT_CREDENTIAL_TOKEN", config.auth)


def _flags_of(server: KernelFlags) -> TokenSource:
    return TokenSource(token=server.auth_token, token_file=server.auth_token_file)


def _first_token(flags: TokenSource, variable: str, configured: TokenSource) -> str | None:
    """Find the token. One that is given directly takes precedence over any file (command line 2).

    Raises:
        ProfileError: other users may read or write the file (profile_token_permissions).
    """
    if (file := _first_file(flags, variable, configured)) is not None:
        check_private(file)
        return non_blank(file.read_text("utf-8"))
    return non_blank(flags.token) or _env(variable) or configured.token


def _first_file(flags: TokenSource, variable: str, configured: TokenSource) -> Path | None:
    if non_blank(flags.token) or _env(variable) or configured.token:
        return None
    file = non_blank(flags.token_file) or _env(f"{variable}_FILE") or configured.token_file
    return None if file is None else Path(file).expanduser()


def _caller(caller: CallerFlags, config: Config) -> AgentRef | None:
    project_id = caller_project(caller, config)
    agent_id = non_blank(caller.caller_agent_id) or _env("CG_CALLER_AGENT_ID") or config.caller_agent_id
    if project_id is None and agent_id is None:
        return None
    if project_id is None or agent_id is None:
        raise UsageError("claimed agent identity requires both project and agent ids")
    return AgentRef(project_id=project_id, agent_id=agent_id)


def _check_caller_is(profile: Profile, caller: CallerFlags) -> None:
    if non_blank(caller.caller_project_id) not in (None, profile.project_id):
        raise UsageError("claimed agent project does not match profile")
    if non_blank(caller.caller_agent_id) not in (None, profile.agent_id):
        raise UsageError("claimed agent id does not match profile")


# ---------------------------------------------------------------- an admission service


def admin_url(
    admin_base_url: str | None, base_url: str | None, config: Config, project_id: str | None = None
) -> str:
    """Return the admission service's address: the kernel's, unless another is named.

    Args:
        admin_base_url: the value of --admin-base-url, if it is given.
        base_url: the value of --base-url, if it is given.
        config: the config file's content.
        project_id: finds the `cg local run` of that project first; None finds any.
    """
    return (
        non_blank(admin_base_url)
        or _env("CG_ADMIN_BASE_URL")
        or config.admin_base_url
        or _kernel_url(base_url, config, project_id)
    )


def admin_token(admin: AdminFlags, config: Config, project_id: str) -> str | None:
    """Return the operator's bearer: one that is given, or that of the project's file on this machine.

    Args:
        admin: the flags.
        config: the config file's content.
        project_id: the project.

    Returns:
        The bearer, or None if there is none.

    Raises:
        ProfileError: others may read the file (profile_token_permissions, admin_auth_token_file_invalid).
    """
    flags = TokenSource(token=admin.admin_auth_token, token_file=admin.admin_auth_token_file)
    given = _first_token(flags, "CG_ADMIN_AUTH_TOKEN", config.admin_auth)
    return given or _default_admin_token(project_id)


def as_operator(admin: AdminFlags, project_id: str, *, to: str) -> AdmissionClient:
    """Make a client for the admission service, with the operator's bearer.

    Args:
        admin: the flags.
        project_id: the project.
        to: the purpose, for the message about a missing bearer.

    Raises:
        ProfileError: there is no bearer (admin_auth_required), or its file cannot be used
            (admin_auth_token_file_invalid).
    """
    config = ConfigFile.locate(admin.config).read()
    token = admin_token(admin, config, project_id)
    if token is None:
        message = f"Admin Service bearer token is required to {to}"
        raise ProfileError("admin_auth_required", message, status=401)
    url = admin_url(admin.admin_base_url, None, config, project_id)
    return AdmissionClient(url, token=token, ca_file=authorities(admin.ca_file, config))


def _default_admin_token(project_id: str) -> str | None:
    try:
        return read_secret(admin_bearer_path(project_id))
    except ProfileError as unsafe:
        raise ProfileError("admin_auth_token_file_invalid", unsafe.message, status=403) from unsafe


def _env(name: str) -> str | None:
    return non_blank(os.environ.get(name))
