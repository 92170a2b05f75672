"""Find all suspended turns of an agent, however many there are."""

from __future__ import annotations

from cgworker.client import KernelClient
from cgworker.outcome import AWAIT_CHILDREN_REASON
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.projections import TurnEntry
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import TurnSnapshot
from cgworker.worker.suspension import cause_of_suspension

_MAX_TURNS = 500  # the most that a projection lists: the youngest
_FEED_PAGE = 500


class SuspendedTurns:
    """The suspended turns of one agent.

    A projection lists the youngest. If there are more, the others are found in the agent's feed, whose first
    read takes a while.

    Args:
        kernel: calls under the agent's identity.
        agent: the agent.
    """

    def __init__(self, kernel: KernelClient, agent: AgentRef) -> None:
        self._kernel = kernel
        self._agent = agent
        self._from_feed: set[TurnRef] = set()
        self._read_until = 0

    async def find(self) -> dict[TurnRef, TurnEntry | TurnSnapshot]:
        """Return the suspended turns, each with its snapshot or its entry of the projection."""
        page = await self._kernel.projections.turns(
            self._agent.project_id,
            target_agent_id=self._agent.agent_id,
            state="suspended",
            limit=_MAX_TURNS,
        )
        found: dict[TurnRef, TurnEntry | TurnSnapshot] = {
            TurnRef(project_id=page.project_id, turn_id=entry.turn_id): entry for entry in page.items
        }
        if len(page.items) == _MAX_TURNS:
            await self._read_feed()
            for turn in self._from_feed:
                if turn not in found and (older := await self._kernel.turns.get(turn)).state == "suspended":
                    found[turn] = older
        return found

    async def _read_feed(self) -> None:
        while True:
            page, has_more = await self._kernel.agents.feed_page(
                self._agent, after_ledger_seq=self._read_until, limit=_FEED_PAGE
            )
            for event in page.items:
                self._read_until = event.ledger_seq
                turn = TurnRef(project_id=self._agent.project_id, turn_id=event.subject_id)
                if event.event_type == "turn.suspended" and not _is_woken_by_kernel(event):
                    self._from_feed.add(turn)
                elif event.event_type in ("turn.resumed", "turn.finished"):
                    self._from_feed.discard(turn)
            if not has_more:
                return


def _is_woken_by_kernel(event: LedgerEvent) -> bool:
    """Whether the kernel alone resumes the turn: there may be very many of these (difference 30)."""
    is_timed = "resume_after_seconds" in event.annotations
    return is_timed and cause_of_suspension(event).reason != AWAIT_CHILDREN_REASON
