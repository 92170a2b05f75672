"""Calls about agents (wire 6.2, 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cgworker.client.feeds import read_feed_page
from cgworker.client.paths import agent_path, project_path
from cgworker.wire.agents import (
    AgentSnapshot,
    AgentSpec,
    Provenance,
    RegisterAgent,
    RenewPresence,
    ReplaceMetadata,
    SetAcceptsWork,
    UpdateAgent,
)
from cgworker.wire.converter import structure_answer
from cgworker.wire.ledger import FeedPage
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


class AgentCalls:
    """Calls about agents, as `kernel.agents`; see `KernelClient` for what they raise."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def get(self, agent: AgentRef) -> AgentSnapshot:
        """Return the agent's current state.

        Args:
            agent: the agent.

        Raises:
            NotFoundError: there is no such agent in the project.
        """
        return structure_answer(AgentSnapshot, (await self._kernel.send("GET", agent_path(agent))).body)

    async def register(self, project_id: str, spec: AgentSpec, provenance: Provenance) -> AgentSnapshot:
        """Register a new agent; this needs the grant `agent.registration.birth`.

        Args:
            project_id: the project the agent belongs to.
            spec: the agent's id, capacity, capabilities and grants.
            provenance: the source that vouches for the registration.

        Returns:
            The agent as registered.

        Raises:
            ConflictError: the agent exists already, or the calling agent does not hold the grant.
        """
        answer = await self._kernel.send(
            "POST",
            project_path(project_id, "/agents:register"),
            body=RegisterAgent(spec=spec, provenance=provenance),
        )
        return structure_answer(AgentSnapshot, answer.body)

    async def update(self, update: UpdateAgent) -> AgentSnapshot:
        """Change an agent's capacity, capabilities, grants, or whether it is enabled (difference 3).

        This needs the grant `agent.registration.birth`.

        Args:
            update: the agent and the fields to change; absent fields stay as they are.

        Returns:
            The agent as updated.

        Raises:
            ConflictError: the calling agent does not hold the grant.
            NotFoundError: there is no such agent.
        """
        path = agent_path(update.agent, ":update", under="/management")
        return structure_answer(AgentSnapshot, (await self._kernel.send("POST", path, body=update)).body)

    async def drain(self, agent: AgentRef, *, requested_by: AgentRef, meta: Meta | None = None) -> None:
        """Stop the agent from accepting work; turns that are queued already stay queued.

        Args:
            agent: the agent to drain.
            requested_by: the calling agent.
            meta: annotations for the ledger event.

        Raises:
            FencingError: the calling agent may not manage this agent.
        """
        await self._set_accepts_work(agent, "drain", requested_by, meta)

    async def resume(self, agent: AgentRef, *, requested_by: AgentRef, meta: Meta | None = None) -> None:
        """Let the agent accept work again.

        Args:
            agent: the agent to resume.
            requested_by: the calling agent.
            meta: annotations for the ledger event.

        Raises:
            FencingError: the calling agent may not manage this agent.
        """
        await self._set_accepts_work(agent, "resume", requested_by, meta)

    async def _set_accepts_work(
        self, agent: AgentRef, verb: str, requested_by: AgentRef, meta: Meta | None
    ) -> None:
        await self._kernel.send(
            "POST",
            agent_path(agent, f":{verb}", under="/management"),
            body=SetAcceptsWork(agent=agent, requested_by=requested_by, meta=meta),
        )

    async def renew_presence(self, agent: AgentRef) -> None:
        """Report that the agent is alive; the kernel sets its `last_seen_at`.

        Args:
            agent: the calling agent.
        """
        path = agent_path(agent, ":heartbeat-presence", under="/management")
        await self._kernel.send("POST", path, body=RenewPresence(agent=agent))

    async def replace_metadata(self, agent: AgentRef, public_metadata: Mapping[str, Any]) -> None:
        """Replace all of the agent's public metadata.

        Args:
            agent: the calling agent.
            public_metadata: the new metadata, a JSON object.
        """
        await self._kernel.send(
            "PUT",
            agent_path(agent, "/public-metadata", under="/management"),
            body=ReplaceMetadata(agent=agent, public_metadata=public_metadata),
        )

    async def feed(
        self, agent: AgentRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> FeedPage:
        """Return a page of events of the agent and of the turns addressed to it.

        The page may be shorter than `limit` although there are more events; `feed_page` tells.

        Args:
            agent: the agent.
            after_ledger_seq: return only events with a higher number.
            limit: the most events to return.
            wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
        """
        page, _ = await self.feed_page(
            agent, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
        return page

    async def feed_page(
        self, agent: AgentRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> tuple[FeedPage, bool]:
        """Return a page as `feed` does, and whether there may be more events.

        There may be more if the page is full, or if the kernel cut it for its size (difference 11).

        Args:
            agent: the agent.
            after_ledger_seq: return only events with a higher number.
            limit: the most events to return.
            wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
        """
        return await read_feed_page(
            self._kernel,
            agent_path(agent, "/feed"),
            after_ledger_seq=after_ledger_seq,
            limit=limit,
            wait_seconds=wait_seconds,
        )
