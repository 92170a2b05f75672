"""Calls about turns (wire 6.3, 6.4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from cgworker.client.lacking import requiring
from cgworker.client.paths import project_path, turn_path
from cgworker.client.transport import REPRESENTED
from cgworker.errors import KernelLacks, KernelTrouble, UsageError
from cgworker.retrying import Backoff
from cgworker.wire.converter import ABSENT, structure_answer, unstructure_plain
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.meta import Meta
from cgworker.wire.records import AppendRecord, SemanticItem, TurnContext
from cgworker.wire.refs import AgentRef, CardBoxRef, ClaimToken, TurnRef
from cgworker.wire.turns import (
    Dispatch,
    FinishTurn,
    ResumeTurn,
    SettleAnswers,
    SettleItem,
    SettleMany,
    StopTurn,
    SuspendTurn,
    TellTurn,
    TurnSnapshot,
)

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient

_FEED_PAGE = 500
_FOLLOW_SECONDS = 50.0
_AT_ONCE_SECONDS = 0.05  # a kernel that has nothing to say and answers sooner cannot wait


def require_agent(kernel: KernelClient) -> AgentRef:
    """Return the agent that the client calls as; raise UsageError if it has none."""
    if kernel.agent is None:
        raise UsageError("this call needs a client with an agent: KernelClient(url, agent=..., token=...)")
    return kernel.agent


class TurnCalls:
    """`kernel.turns`."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def dispatch(self, dispatch: Dispatch) -> TurnRef:
        """Give an agent work. Repeating it with equal content gives the same turn (wire 8.3)."""
        path = project_path(dispatch.requested_by.project_id, "/turns:dispatch")
        return structure_answer(TurnRef, (await self._kernel.send("POST", path, body=dispatch)).body)

    async def get(self, turn: TurnRef, *, state: str | None = None, wait_seconds: float = 0) -> TurnSnapshot:
        """The turn as it stands.

        Args:
            state: with `wait_seconds`, wait until the turn is no longer in this state, or is closed.
            wait_seconds: how long the kernel may wait; the reference's kernel answers at once.
        """
        answer = await self._kernel.send(
            "GET", turn_path(turn), query={"state": state}, wait_seconds=wait_seconds
        )
        return structure_answer(TurnSnapshot, answer.body)

    async def context(self, turn: TurnRef, *, after_turn_seq: int = 0, limit: int = 100) -> TurnContext:
        """The turn and one page of its records after `after_turn_seq`.

        It can be shorter than `limit` although there is more: see `context_page`.
        """
        return (await self.context_page(turn, after_turn_seq=after_turn_seq, limit=limit))[0]

    async def context_page(
        self, turn: TurnRef, *, after_turn_seq: int = 0, limit: int = 100
    ) -> tuple[TurnContext, bool]:
        """As `context`, and whether there may be more records: the page is full, or the kernel cut it."""
        query = {"after_turn_seq": after_turn_seq, "limit": limit}
        answer = await self._kernel.send("GET", turn_path(turn, "/context"), query=query)
        page = structure_answer(TurnContext, answer.body)
        return page, answer.has_more(len(page.semantic_items), limit)

    async def wait_for_records(
        self, turn: TurnRef, *, after_turn_seq: int, wait_seconds: float
    ) -> TurnContext:
        """The turn and its next record after `after_turn_seq`: once there is one, or the turn is closed.

        Args:
            turn: the turn.
            after_turn_seq: the last record that is known.
            wait_seconds: how long the kernel may wait, 1 at least; after that the page is empty.

        Raises:
            KernelLacks: the kernel cannot wait for records, as the reference's cannot.
        """
        answer = await self._kernel.send(
            "GET",
            turn_path(turn, "/context"),
            query={"after_turn_seq": after_turn_seq, "limit": 1},
            wait_seconds=wait_seconds,
        )
        if not answer.waited:
            raise KernelLacks("waiting for a turn's records", self._kernel.base_url)
        return structure_answer(TurnContext, answer.body)

    async def records(
        self, turn: TurnRef, *, after_turn_seq: int = 0, page_size: int = 100
    ) -> AsyncGenerator[SemanticItem, None]:
        """All records after `after_turn_seq`, page by page.

        A short page is the last, unless the kernel cut it and says so (difference 11).
        """
        while True:
            page, has_more = await self.context_page(turn, after_turn_seq=after_turn_seq, limit=page_size)
            for item in page.semantic_items:
                yield item
                after_turn_seq = item.record.turn_seq
            if not has_more:
                return

    async def feed(
        self, turn: TurnRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> FeedPage:
        """A page of the turn's events, and of its children's births and ends.

        It can be shorter than `limit` although there is more: see `feed_page`.
        """
        page, _ = await self.feed_page(
            turn, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
        return page

    async def feed_page(
        self, turn: TurnRef, *, after_ledger_seq: int = 0, limit: int = 100, wait_seconds: float = 0
    ) -> tuple[FeedPage, bool]:
        """As `feed`, and whether there may be more events: the page is full, or the kernel cut it."""
        answer = await self._kernel.send(
            "GET",
            turn_path(turn, "/feed"),
            query={"after_ledger_seq": after_ledger_seq, "limit": limit},
            wait_seconds=wait_seconds,
        )
        page = structure_answer(FeedPage, answer.body)
        return page, answer.has_more(len(page.items), limit)

    async def events(self, turn: TurnRef) -> AsyncGenerator[LedgerEvent, None]:
        """All of the turn's events so far, and its children's births and ends, page by page."""
        after_ledger_seq = 0
        while True:
            page, has_more = await self.feed_page(turn, after_ledger_seq=after_ledger_seq, limit=_FEED_PAGE)
            for event in page.items:
                yield event
            if not has_more:
                return
            after_ledger_seq = page.next_after_ledger_seq

    async def follow(
        self, turn: TurnRef, *, after_turn_seq: int = 0, poll_seconds: float = 1.0
    ) -> AsyncGenerator[SemanticItem, None]:
        """The records after `after_turn_seq` as they are made, until the turn is closed.

        Once the kernel has answered, outages are waited for: nothing is left out, and nothing comes twice.

        Args:
            poll_seconds: the longest pause between two looks at a kernel that cannot wait.

        Raises:
            KernelTrouble: the kernel did not answer the very first request.
        """
        pause, read_until, is_closed = Backoff(0.1, poll_seconds), 0, False
        has_answered = False
        while not is_closed:
            asked_at = anyio.current_time()
            try:
                page = await self.feed(
                    turn, after_ledger_seq=read_until, limit=_FEED_PAGE, wait_seconds=_FOLLOW_SECONDS
                )
                has_answered = True
                if page.items:
                    async with aclosing(self.records(turn, after_turn_seq=after_turn_seq)) as records:
                        async for item in records:
                            yield item
                            after_turn_seq = item.record.turn_seq
            except KernelTrouble as trouble:
                if not has_answered:
                    raise
                await anyio.sleep(pause.next_seconds(trouble))
                continue
            read_until = page.next_after_ledger_seq
            own = (event.event_type for event in page.items if event.subject_id == turn.turn_id)
            is_closed = "turn.finished" in own
            if page.items:
                pause.reset()
            elif anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
                await anyio.sleep(pause.next_seconds())

    async def append(
        self,
        claim: ClaimToken,
        payload: Any,
        *,
        role: str = "progress",
        meta: Meta | None = None,
        idempotency_key: str | None = None,
    ) -> CardBoxRef:
        """Add a record. With a key, a repeat adds nothing (difference 4).

        The reference's kernel ignores the key.
        """
        answer = await self._kernel.send(
            "POST",
            turn_path(claim.turn, "/semantic-records"),
            body=AppendRecord(claim=claim, payload=payload, role=role, meta=meta),
            headers={"idempotency-key": idempotency_key} if idempotency_key else None,
        )
        return structure_answer(CardBoxRef, answer.body)

    async def finish(
        self,
        claim: ClaimToken,
        outcome: str,
        *,
        final_payload: Any = ABSENT,
        final_record_role: str = "deliverable",
        meta: Meta | None = None,
    ) -> None:
        """Close the turn. Leave `final_payload` absent for none; None is a payload of null."""
        await self._kernel.send(
            "POST",
            turn_path(claim.turn, ":finish"),
            body=FinishTurn(
                claim=claim,
                outcome=outcome,
                final_payload=final_payload,
                final_record_role=final_record_role,
                meta=meta,
            ),
        )

    async def suspend(
        self, claim: ClaimToken, reason: str, *, note: str | None = None, meta: Meta | None = None
    ) -> None:
        """Put the turn aside."""
        await self._kernel.send(
            "POST",
            turn_path(claim.turn, ":suspend"),
            body=SuspendTurn(claim=claim, reason=reason, note=note, meta=meta),
        )

    async def resume(
        self, turn: TurnRef, *, requested_by: AgentRef, note: str | None = None, meta: Meta | None = None
    ) -> None:
        """Queue a suspended turn again; another agent's needs the grant `turn.resume.any`."""
        await self._kernel.send(
            "POST",
            turn_path(turn, ":resume"),
            body=ResumeTurn(requested_by=requested_by, note=note, meta=meta),
        )

    async def tell(
        self,
        turn: TurnRef,
        message: Any,
        *,
        key: str | None = None,
        requested_by: AgentRef | None = None,
        meta: Meta | None = None,
    ) -> CardBoxRef:
        """Tell a turn something that its handler gets by `turn.messages()`, now or when it runs again.

        Allowed are the turn's requester, its own agent, and agents with the grant `turn.tell.any`.

        Args:
            turn: a turn that is not closed.
            message: any JSON value; public.
            key: names the message within the turn, so that a repeat of the call does nothing.
            requested_by: who says it; by default the client's agent.
            meta: remarks for the ledger.

        Returns:
            Where the content of the record is.

        Raises:
            ConflictError: the turn is closed, or the key belongs to another message.
            FencingError: this agent may not tell the turn anything.
            KernelLacks: the kernel has no messages, as the reference's has not.
            UsageError: neither the call nor the client names an agent.
        """
        sender = requested_by or require_agent(self._kernel)
        with requiring("telling turns something", self._kernel.base_url):
            answer = await self._kernel.send(
                "POST",
                turn_path(turn, ":tell"),
                body=TellTurn(requested_by=sender, message=unstructure_plain(message), key=key, meta=meta),
            )
        return structure_answer(CardBoxRef, answer.body)

    async def stop(self, turn: TurnRef, *, requested_by: AgentRef, meta: Meta | None = None) -> TurnRef:
        """Ask for the turn to be stopped; another agent's needs the grant `turn.stop.any`."""
        answer = await self._kernel.send(
            "POST",
            turn_path(turn, ":stop", under="/management"),
            body=StopTurn(turn=turn, requested_by=requested_by, meta=meta),
        )
        return structure_answer(TurnRef, answer.body)

    async def settle_many(self, project_id: str, items: tuple[SettleItem, ...]) -> SettleAnswers:
        """Settle many turns in one request (difference 9; 404 from the reference's kernel).

        An item with `next` claims its agent's next turn as well, with its context.
        """
        path = project_path(project_id, "/turns:settle-many")
        body = SettleMany(items=items)
        answer = await self._kernel.send("POST", path, body=body, headers=REPRESENTED)
        return structure_answer(SettleAnswers, answer.body)
