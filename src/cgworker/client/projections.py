"""Calls about projections (wire 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cgworker.client.paths import project_path, segment
from cgworker.wire.converter import structure_answer
from cgworker.wire.projections import AgentPage, EventPage, Lineage, OfferPage, TurnPage

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient

Page = TypeVar("Page")


class ProjectionCalls:
    """`kernel.projections`. Filters that are None, and flags that are false, do not filter."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def agents(
        self,
        project_id: str,
        *,
        agent_id: str | None = None,
        enabled_only: bool | None = None,
        accepts_work_only: bool | None = None,
        role: str | None = None,
        capability: str | None = None,
        limit: int | None = None,
    ) -> AgentPage:
        """Agents by id."""
        return await self._page(
            AgentPage,
            project_id,
            "agents",
            agent_id=agent_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            role=role,
            capability=capability,
            limit=limit,
        )

    async def turn_offers(
        self,
        project_id: str,
        *,
        turn_kind: str | None = None,
        agent_id: str | None = None,
        enabled_only: bool | None = None,
        accepts_work_only: bool | None = None,
        limit: int | None = None,
    ) -> OfferPage:
        """What agents say they can do, by turn kind and agent."""
        return await self._page(
            OfferPage,
            project_id,
            "turn-offers",
            turn_kind=turn_kind,
            agent_id=agent_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            limit=limit,
        )

    async def turns(
        self,
        project_id: str,
        *,
        target_agent_id: str | None = None,
        turn_kind: str | None = None,
        state: str | None = None,
        outcome: str | None = None,
        stop_requested_only: bool | None = None,
        limit: int | None = None,
    ) -> TurnPage:
        """Turns, the newest first."""
        return await self._page(
            TurnPage,
            project_id,
            "turns",
            target_agent_id=target_agent_id,
            turn_kind=turn_kind,
            state=state,
            outcome=outcome,
            stop_requested_only=stop_requested_only,
            limit=limit,
        )

    async def lineage(self, project_id: str, turn_id: str, *, limit: int | None = None) -> Lineage:
        """A turn and its direct children."""
        return await self._page(Lineage, project_id, f"turns/{segment(turn_id)}/lineage", limit=limit)

    async def feed(
        self,
        project_id: str,
        *,
        after_ledger_seq: int | None = None,
        limit: int | None = None,
        wait_seconds: float = 0,
    ) -> EventPage:
        """The project's events after a sequence number."""
        return await self._page(
            EventPage,
            project_id,
            "feed",
            wait_seconds=wait_seconds,
            after_ledger_seq=after_ledger_seq,
            limit=limit,
        )

    async def _page(
        self,
        page: type[Page],
        project_id: str,
        name: str,
        *,
        wait_seconds: float = 0,
        **query: str | int | bool | None,
    ) -> Page:
        path = project_path(project_id, f"/projection/{name}")
        answer = await self._kernel.send("GET", path, query=query, wait_seconds=wait_seconds)
        return structure_answer(page, answer.body)
