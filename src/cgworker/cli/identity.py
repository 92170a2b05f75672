"""Find out which agent and which project a command means: from its flags, or else from the profiles.

What a line leaves out is taken from --profile. Without it, the only profile that fits is used, unless the
line gives a token.
"""

from __future__ import annotations

import os

from cgworker.cli.options import CallerFlags, KernelFlags, ServerFlags
from cgworker.errors import UsageError
from cgworker.profiles import Config, ConfigFile, Profile, non_blank
from cgworker.wire.refs import AgentRef

_MAX_NAMES = 5


def acting_agent(
    server: ServerFlags,
    project_id: str | None = None,
    agent_id: str | None = None,
    *,
    command_name: str = "cg worker",
    agent_flag: str = "--agent-id",
) -> AgentRef:
    """Return the agent of --project-id and the agent's flag, or else that of the profile.

    Args:
        server: the flags.
        project_id: the value of --project-id, if it is given.
        agent_id: the value of the agent's flag, if it is given.
        command_name: the command, for the message of a failure.
        agent_flag: the flag that names the agent, for the message of a failure.

    Raises:
        UsageError: no agent is named, or the flags contradict each other.
        ProfileError: the profile cannot be used.
    """
    project_id, agent_id, name = non_blank(project_id), non_blank(agent_id), non_blank(server.profile)
    if project_id and agent_id:
        return AgentRef(project_id=project_id, agent_id=agent_id)
    config = ConfigFile.locate(server.config).read()
    if name is None:
        found = only_profile(server, config, project_id, agent_id)
        if found is None:
            needed = f"{command_name} requires --profile, or --project-id with {agent_flag}"
            raise UsageError(needed + _names_of(config))
        return found.agent
    agent = config.profile(name).agent
    if project_id not in (None, agent.project_id):
        raise UsageError("--project-id does not match --profile")
    if agent_id not in (None, agent.agent_id):
        raise UsageError(f"{agent_flag} does not match --profile")
    return agent


def project_of(server: ServerFlags, project_id: str | None, caller: CallerFlags | None = None) -> str:
    """Return the project of --project-id, or else that of the profile, or else the caller's.

    Args:
        server: the flags.
        project_id: the value of --project-id, if it is given.
        caller: names the agent that --auth-token belongs to.

    Raises:
        UsageError: no project is named.
        ProfileError: the profile cannot be used.
    """
    if given := non_blank(project_id):
        return given
    config = ConfigFile.locate(server.config).read()
    if name := non_blank(server.profile):
        return config.profile(name).project_id
    if caller is not None and (theirs := caller_project(caller, config)):
        return theirs
    if (found := only_profile(server, config)) is None:
        raise UsageError("--project-id is required without --profile" + _names_of(config))
    return found.project_id


def caller_project(caller: CallerFlags, config: Config) -> str | None:
    """Return the project of --caller-project-id, CG_CALLER_PROJECT_ID or the config, or None."""
    named = non_blank(caller.caller_project_id) or non_blank(os.environ.get("CG_CALLER_PROJECT_ID"))
    return named or config.caller_project_id


def only_profile(
    server: KernelFlags, config: Config, project_id: str | None = None, agent_id: str | None = None
) -> Profile | None:
    """Return the only profile that fits, if the line gives no token; None if there is none, or several.

    Args:
        server: the flags.
        config: the content of the config file.
        project_id: only profiles of this project; None takes any.
        agent_id: only profiles of this agent; None takes any.
    """
    if non_blank(server.auth_token) or non_blank(server.auth_token_file):
        return None
    fitting = [
        profile
        for profile in config.profiles.values()
        if project_id in (None, profile.project_id) and agent_id in (None, profile.agent_id)
    ]
    return fitting[0] if len(fitting) == 1 else None


def parse_profile_name(name: str) -> AgentRef:
    """Return the agent that a profile's name `<project>/<agent>` names.

    Raises:
        UsageError: the name has another form.
    """
    project_id, slash, agent_id = name.strip().partition("/")
    if not (project_id and slash and agent_id) or "/" in agent_id:
        raise UsageError("profile must be <project_id>/<agent_id>")
    return AgentRef(project_id=project_id, agent_id=agent_id)


def _names_of(config: Config) -> str:
    """Return the end of a message that tells which profiles there are."""
    names = list(config.profiles)
    if not names:
        return "; this machine has no profile yet"
    more = ", ..." if len(names) > _MAX_NAMES else ""
    return f"; this machine has the profiles {', '.join(names[:_MAX_NAMES])}{more}"
