"""Calls about projections (wire 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cgworker.client.paths import project_path, segment
from cgworker.errors import KernelLacks
from cgworker.wire.converter import structure_answer
from cgworker.wire.projections import AgentPage, EventPage, Lineage, OfferPage, TurnPage

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient

Page = TypeVar("Page")


class ProjectionCalls:
    """Lists of a project, as `kernel.projections`; see `KernelClient` for what the calls raise.

    A filter that is None, and a flag that is false, does not filter. `limit` is the most entries to return;
    None takes the kernel's default.
    """

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
        after_agent_id: str | None = None,
        limit: int | None = None,
    ) -> AgentPage:
        """Return the project's agents, ordered by id.

        Args:
            project_id: the project.
            agent_id: return only this agent.
            enabled_only: return only agents that are enabled.
            accepts_work_only: return only agents that accept work.
            role: return only agents of this role.
            capability: return only agents with this capability.
            after_agent_id: begin after this agent, to continue a list.
            limit: the most entries to return.

        Raises:
            KernelLacks: the kernel cannot continue lists, as the reference's cannot.
        """
        page = await self._page(
            AgentPage,
            project_id,
            "agents",
            agent_id=agent_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            role=role,
            capability=capability,
            after_agent_id=after_agent_id,
            limit=limit,
        )
        if after_agent_id in {entry.agent_id for entry in page.items}:  # it was ignored
            raise KernelLacks("lists of agents after a given one", self._kernel.base_url)
        return page

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
        """Return the turn kinds that agents offer, ordered by kind and agent.

        Args:
            project_id: the project.
            turn_kind: return only offers of this kind.
            agent_id: return only offers of this agent.
            enabled_only: return only offers of agents that are enabled.
            accepts_work_only: return only offers of agents that accept work.
            limit: the most entries to return.
        """
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
        before_turn_seq: int | None = None,
        limit: int | None = None,
    ) -> TurnPage:
        """Return the project's turns, newest first.

        Args:
            project_id: the project.
            target_agent_id: return only turns addressed to this agent.
            turn_kind: return only turns of this kind.
            state: return only turns in this state.
            outcome: return only turns with this outcome.
            stop_requested_only: return only turns that were asked to stop.
            before_turn_seq: return only turns with a lower number, to continue a list.
            limit: the most entries to return.

        Raises:
            KernelLacks: the kernel cannot continue lists, as the reference's cannot.
        """
        page = await self._page(
            TurnPage,
            project_id,
            "turns",
            target_agent_id=target_agent_id,
            turn_kind=turn_kind,
            state=state,
            outcome=outcome,
            stop_requested_only=stop_requested_only,
            before_turn_seq=before_turn_seq,
            limit=limit,
        )
        if before_turn_seq is not None and page.items and page.items[0].project_turn_seq >= before_turn_seq:
            raise KernelLacks("lists of turns before a given one", self._kernel.base_url)
        return page

    async def lineage(self, project_id: str, turn_id: str, *, limit: int | None = None) -> Lineage:
        """Return a turn and its direct children.

        Args:
            project_id: the project.
            turn_id: the turn.
            limit: the most children to return.
        """
        return await self._page(Lineage, project_id, f"turns/{segment(turn_id)}/lineage", limit=limit)

    async def feed(
        self,
        project_id: str,
        *,
        after_ledger_seq: int | None = None,
        limit: int | None = None,
        wait_seconds: float = 0,
    ) -> EventPage:
        """Return the project's events after a sequence number, in ascending order.

        Args:
            project_id: the project.
            after_ledger_seq: return only events with a higher number; None starts at the first.
            limit: the most events to return.
            wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
        """
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
