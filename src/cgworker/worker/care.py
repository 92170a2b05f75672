"""Queueing again what this agent's workers have put aside for later (decision 22).

Which turns those are stands in the ledger, so any live worker of the agent can do it, also for one that
was killed half way: turns suspended with `worker_shutdown`, with `worker_retry` once their `not_before`
has passed, and with `no_handler` if there is one now. Never any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, ConflictError
from cgworker.events import Listener, TurnResumed, emit, logger
from cgworker.outcome import NO_HANDLER_REASON, RETRY_REASON, SHUTDOWN_REASON
from cgworker.wire.projections import TurnEntry
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker.routing import Routes

_LOOK_SECONDS = 300.0
_MOST_TURNS = 500  # what a projection gives
_FEED_PAGE = 500


@frozen
class Remark:
    """Why a turn was suspended: the reason, and the annotations that came with it."""

    reason: str | None
    annotations: Mapping[str, Any]

    @property
    def not_before(self) -> datetime | None:
        """When a retry may begin; None at once."""
        try:
            instant = datetime.fromisoformat(str(self.annotations["not_before"]))
        except (KeyError, ValueError):
            return None
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


class Caretaker:
    """Looks after the suspended turns of one agent.

    Args:
        kernel: calls under the agent's identity.
        agent: whose turns.
        routes: what the worker handles.
        listener: told of each turn queued again.
    """

    def __init__(
        self, kernel: KernelClient, agent: AgentRef, routes: Routes, listener: Listener | None
    ) -> None:
        self._kernel = kernel
        self._agent = agent
        self._routes = routes
        self._listener = listener
        self._left_alone: dict[str, datetime] = {}

    async def run(self) -> None:
        """Look now, and then now and again, until cancelled."""
        while True:
            next_look_seconds = await self.look()
            await anyio.sleep(next_look_seconds)

    async def look(self) -> float:
        """Queue again what is due; returns in how many seconds to look again."""
        wait = _LOOK_SECONDS
        try:
            page = await self._kernel.projections.turns(
                self._agent.project_id,
                target_agent_id=self._agent.agent_id,
                state="suspended",
                limit=_MOST_TURNS,
            )
            for entry in page.items:
                if self._left_alone.get(entry.turn_id) != entry.updated_at:
                    wait = min(wait, await self._care_for(entry))
        except CommonGroundError as trouble:
            logger.debug("looking after suspended turns failed: %s", trouble)
            return 30.0
        return wait

    async def resume_later(self, turn: TurnRef, after_seconds: float, reason: str) -> None:
        """Queue a turn again after a while, without asking the ledger."""
        await anyio.sleep(after_seconds)
        try:
            await self._resume(turn, reason)
        except CommonGroundError as trouble:
            logger.warning("%s stays suspended for now (%s): %s", turn, reason, trouble)

    async def _care_for(self, entry: TurnEntry) -> float:
        turn = TurnRef(project_id=self._agent.project_id, turn_id=entry.turn_id)
        remark = await self._last_remark(turn)
        if not self._is_ours(remark, entry):
            self._left_alone[entry.turn_id] = entry.updated_at
            return _LOOK_SECONDS
        if remark.not_before is not None:
            seconds = (remark.not_before - datetime.now(UTC)).total_seconds()
            if seconds > 0:
                return min(max(seconds, 0.1), _LOOK_SECONDS)
        await self._resume(turn, remark.reason or "")
        return _LOOK_SECONDS

    def _is_ours(self, remark: Remark, entry: TurnEntry) -> bool:
        if remark.reason == NO_HANDLER_REASON:
            return self._routes.find(entry.turn_kind) is not None
        return remark.reason in (SHUTDOWN_REASON, RETRY_REASON)

    async def _last_remark(self, turn: TurnRef) -> Remark:
        remark, after = Remark(None, {}), 0
        while True:
            page = await self._kernel.turns.feed(turn, after_ledger_seq=after, limit=_FEED_PAGE)
            for event in page.items:
                if event.event_type == "turn.suspended" and event.subject_id == turn.turn_id:
                    remark = _remark_of(event.annotations)
            if len(page.items) < _FEED_PAGE:
                return remark
            after = page.next_after_ledger_seq

    async def _resume(self, turn: TurnRef, reason: str) -> None:
        try:
            await self._kernel.turns.resume(turn, requested_by=self._agent)
        except ConflictError:  # another worker was quicker
            return
        emit(self._listener, TurnResumed(turn=turn, reason=reason))


def _remark_of(annotations: Mapping[str, Any]) -> Remark:
    caller = annotations.get("caller")
    caller = caller if isinstance(caller, Mapping) else {}
    said = caller.get("annotations")
    return Remark(caller.get("reason"), said if isinstance(said, Mapping) else {})
