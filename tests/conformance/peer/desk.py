"""A user's desk: one `cg`, set up for one site, and the agents that have joined there from it."""

from __future__ import annotations

import secrets
from typing import Any

import anyio
from attrs import frozen

from cgworker import AdmissionClient
from cgworker.private import replace_private
from cgworker.profiles import (
    ConfigFile,
    Profile,
)
from cgworker.wire.admission import CreateInvite
from cgworker.wire.turns import CONVERSATION_KIND
from tests.conformance.peer.site import PROJECT, Site
from tests.conformance.peer.software import Home

REQUESTER = "requester"


@frozen
class Desk:
    """Commands of one program, against one site."""

    cg: Home
    site: Site

    def join_requester(self) -> None:
        """Join as the requester, unless a test of this site has done that."""
        joined = self.site.home / ".local/share/commonground/credentials" / PROJECT / REQUESTER
        if not joined.exists():
            self.join(REQUESTER)

    def join(self, agent_id: str) -> str:
        """Invite an agent, and join as it; returns its profile's name."""
        invite = self.cg.result(
            "admission", "invite", "create", "--agent-id", agent_id, "--join-base-url", self.site.url
        )
        return str(self.cg.result("agent", "join", self.site.url, invite["join_code"])["profile"])

    def join_anew(self) -> str:
        """An agent that no other test has; joined without commands, which take their time."""
        agent_id = f"worker-{secrets.token_hex(3)}"
        anyio.run(self._join, agent_id)
        return agent_id

    async def _join(self, agent_id: str) -> None:
        async with AdmissionClient(self.site.url, token=self.site.admin_bearer) as admission:
            invite = await admission.create_invite(PROJECT, CreateInvite(agent_id=agent_id))
            joined = await admission.redeem(invite.join_code)
        home = self.site.home
        token_file = home / ".local/share/commonground/credentials" / PROJECT / agent_id / "joined.token"
        replace_private(token_file, f"{joined.agent_credential_token}\n")
        profile = Profile(
            project_id=PROJECT,
            agent_id=agent_id,
            profile_kind=joined.profile.profile_kind,
            runtime_kind=joined.profile.runtime_kind,
            display_name=agent_id,
            credential_id=joined.profile.credential_id,
            token_file=token_file,
            status="ready",
        )
        ConfigFile(home / ".config/commonground/config.json").save_profile(profile)

    def dispatch(self, agent_id: str, payload: str = '{"prompt":"hi"}') -> str:
        """Give an agent a turn; returns the turn's id."""
        sent = self.cg.result(*self.dispatch_words(agent_id, secrets.token_hex(8), payload))
        return str(sent["turn_id"])

    def dispatch_words(self, agent_id: str, key: str, payload: str) -> tuple[str, ...]:
        """The command that dispatches."""
        return (
            "dispatch", "--project-id", PROJECT, "--requested-by", REQUESTER, "--target-agent", agent_id,
            "--turn-kind", CONVERSATION_KIND, "--request-id", key, "--payload-json", payload,
        )  # fmt: skip

    def turn(self, verb: str, turn_id: str, *words: str) -> Any:
        """`cg turn get|context|wait` as the requester."""
        return self.cg.result(
            "turn", verb, "--profile", f"{PROJECT}/{REQUESTER}", "--project-id", PROJECT,
            "--turn-id", turn_id, *words,
        )  # fmt: skip

    def project(self, *words: str) -> Any:
        """`cg project ...` as the requester."""
        return self.cg.result(
            "project", *words, "--profile", f"{PROJECT}/{REQUESTER}", "--project-id", PROJECT
        )

    def claim(self, verb: str, agent_id: str, *words: str) -> Any:
        """`cg worker claim ...` as the agent."""
        return self.cg.result("worker", "claim", verb, "--profile", f"{PROJECT}/{agent_id}", *words)


def profile(agent_id: str) -> str:
    """What the agent's profile is called."""
    return f"{PROJECT}/{agent_id}"
