"""Calls about agents (wire 6.2, 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    """`kernel.agents`."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def get(self, agent: AgentRef) -> AgentSnapshot:
        """The agent as it stands."""
        return structure_answer(AgentSnapshot, (await self._kernel.send("GET", agent_path(agent))).body)

    async def register(self, project_id: str, spec: AgentSpec, provenance: Provenance) -> AgentSnapshot:
        """Register a new agent; needs the grant `agent.registration.birth`."""
        answer = await self._kernel.send(
            "POST",
            project_path(project_id, "/agents:register"),
            body=RegisterAgent(spec=spec, provenance=provenance),
        )
        return structure_answer(AgentSnapshot, answer.body)

    async def update(self, update: UpdateAgent) -> AgentSnapshot:
        """Change capacity, enabled, capabilities or grants (difference 3).

        Needs the grant `agent.registration.birth`.
        """
        path = agent_path(update.agent, ":update", under="/management")
        return structure_answer(AgentSnapshot, (await self._kernel.send("POST", path, body=update)).body)

    async def drain(self, agent: AgentRef, *, requested_by: AgentRef, meta: Meta | None = None) -> None:
        """Let the agent accept no more work; turns already queued wait."""
        await self._set_accepts_work(agent, "drain", requested_by, meta)

    async def resume(self, agent: AgentRef, *, requested_by: AgentRef, meta: Meta | None = None) -> None:
        """Let the agent accept work again."""
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
        """Say that the agent is alive (`last_seen_at`)."""
        path = agent_path(agent, ":heartbeat-presence", under="/management")
        await self._kernel.send("POST", path, body=RenewPresence(agent=agent))

    async def replace_metadata(self, agent: AgentRef, public_metadata: Mapping[str, Any]) -> None:
        """Replace the agent's own public metadata as a whole."""
        await self._kernel.send(
            "PUT",
            agent_path(agent, "/public-metadata", under="/management"),
            body=ReplaceMetadata(agent=agent, public_metadata=public_metadata),
        )

    async def feed(
        self, agent: AgentRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> FeedPage:
        """A page of events of the agent and of the turns addressed to it.

        It can be shorter than `limit` although there is more: see `feed_page`.
        """
        page, _ = await self.feed_page(
            agent, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
        return page

    async def feed_page(
        self, agent: AgentRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> tuple[FeedPage, bool]:
        """As `feed`, and whether there may be more events: the page is full, or the kernel cut it."""
        answer = await self._kernel.send(
            "GET",
            agent_path(agent, "/feed"),
            query={"after_ledger_seq": after_ledger_seq, "limit": limit},
            wait_seconds=wait_seconds,
        )
        page = structure_answer(FeedPage, answer.body)
        return page, answer.has_more(len(page.items), limit)
