"""The kernel of a profile, which is read when a worker first needs it."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cgworker.client import KernelClient
from cgworker.errors import ProfileError
from cgworker.profiles import resolve_profile
from cgworker.wire.refs import AgentRef


@frozen
class ProfileKernel:
    """Stands for the client of a profile until it is needed, so that a program can be imported without it.

    Attributes:
        name: `<project>/<agent>`.
        config_path: the CLI's config file; None is the one that the CLI uses.
    """

    name: str
    config_path: Path | None

    @property
    def agent(self) -> AgentRef:
        """The agent of the profile; the one that the name names while there is no profile."""
        try:
            return resolve_profile(self.name, config_path=self.config_path).agent
        except ProfileError:
            pass
        project_id, _, agent_id = self.name.strip().partition("/")
        return AgentRef(project_id=project_id, agent_id=agent_id)

    def connect(self) -> KernelClient:
        """Make the client, with the profile's base URL, identity and credential.

        Raises:
            ProfileError: the profile, its config file or its token file is missing or unsafe.
        """
        profile = resolve_profile(self.name, config_path=self.config_path)
        return KernelClient(
            profile.base_url,
            agent=profile.agent,
            token=profile.token,
            token_file=profile.token_file,
            ca_file=profile.ca_file,
        )
