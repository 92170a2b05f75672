"""Calls about turns (wire 6.3, 6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from cgworker.client.lacking import requiring
from cgworker.client.paths import project_path, turn_path
from cgworker.client.transport import REPRESENTED, error_of
from cgworker.client.turn_reads import TurnReads
from cgworker.errors import CommonGroundError, UsageError
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, structure_answer, unstructure_plain
from cgworker.wire.dispatch_many import MAX_DISPATCHES, DispatchMany
from cgworker.wire.meta import Meta
from cgworker.wire.order import ORDER_FIELDS
from cgworker.wire.records import AppendRecord
from cgworker.wire.refs import AgentRef, CardBoxRef, ClaimToken, TurnRef
from cgworker.wire.turns import (
    Dispatch,
    FinishTurn,
    ItemAnswer,
    ItemAnswers,
    RedoTurn,
    ResumeTurn,
    SettleAnswers,
    SettleItem,
    SettleMany,
    StopTurn,
    SuspendTurn,
    TellTurn,
)

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


def require_agent(kernel: KernelClient) -> AgentRef:
    """Return the agent that the client acts as.

    Args:
        kernel: the client.

    Raises:
        UsageError: the caller's fault: the client has no agent.
    """
    if kernel.agent is None:
        raise UsageError("this call needs a client with an agent: KernelClient(url, agent=..., token=...)")
    return kernel.agent


class TurnCalls(TurnReads):
    """Calls about turns, as `kernel.turns`; see `KernelClient` for what they raise."""

    __slots__ = ()

    async def dispatch(self, dispatch: Dispatch) -> TurnRef:
        """Dispatch a turn to an agent. Repeating it with equal content returns the same turn (wire 8.3).

        Args:
            dispatch: the target agent, the input and the authority.

        Returns:
            The reference of the new turn, or of the one that exists.

        Raises:
            ConflictError: the `dispatch_key` belongs to a turn with other content, or the agent lacks the
                capability for the turn kind.
            FencingError: the parent's claim does not hold any more.
            KernelLacks: the kernel does not know a field that says when and in which order the turn is
                claimed, as the reference's does not.
        """
        path = project_path(dispatch.requested_by.project_id, "/turns:dispatch")
        order = [name for name in ORDER_FIELDS if getattr(dispatch, name) is not ABSENT]
        if not order:
            return structure_answer(TurnRef, (await self._kernel.send("POST", path, body=dispatch)).body)
        with requiring(f"dispatches with {', '.join(order)}", self._kernel.base_url, *order):
            answer = await self._kernel.send("POST", path, body=dispatch)
        return structure_answer(TurnRef, answer.body)

    async def dispatch_many(self, dispatches: Sequence[Dispatch]) -> list[TurnRef | CommonGroundError]:
        """Dispatch turns in one request, each as `dispatch` does; one that is refused changes no other.

        Args:
            dispatches: 1 to 200, all of the same `requested_by`.

        Returns:
            By index, the reference of the turn, or the error that `dispatch` would have raised.

        Raises:
            KernelLacks: the kernel has no such route, as the reference's has not.
            UsageError: the caller's fault: there are none, or more than 200.
        """
        if not 1 <= len(dispatches) <= MAX_DISPATCHES:
            raise UsageError(f"dispatch_many takes 1 to {MAX_DISPATCHES} dispatches, not {len(dispatches)}")
        path = project_path(dispatches[0].requested_by.project_id, "/turns:dispatch-many")
        with requiring("dispatching many turns in one request", self._kernel.base_url):
            answer = await self._kernel.send("POST", path, body=DispatchMany(items=tuple(dispatches)))
        items = structure_answer(ItemAnswers, answer.body).items
        return [_turn_or_error(item) for item in items]

    async def tell(
        self,
        turn: TurnRef,
        message: Any,
        *,
        key: str | None = None,
        requested_by: AgentRef | None = None,
        meta: Meta | None = None,
    ) -> CardBoxRef:
        """Send a turn a message; its handler gets it by `turn.messages()`, now or when it runs again.

        The turn's requester, its own agent, and agents with the grant `turn.tell.any` may do this.

        Args:
            turn: a turn that is not closed.
            message: any JSON value; it is public.
            key: identifies the message within the turn, so that repeating the call has no effect.
            requested_by: the sender; by default the client's agent.
            meta: annotations for the ledger event.

        Returns:
            A reference to the stored payload.

        Raises:
            ConflictError: the turn is closed, or the key belongs to another message.
            FencingError: this agent may not send messages to the turn.
            KernelLacks: the kernel has no messages, as the reference's has not.
            UsageError: the caller's fault: neither the call nor the client names an agent.
        """
        sender = requested_by or require_agent(self._kernel)
        with requiring("telling turns something", self._kernel.base_url):
            answer = await self._kernel.send(
                "POST",
                turn_path(turn, ":tell"),
                body=TellTurn(requested_by=sender, message=unstructure_plain(message), key=key, meta=meta),
            )
        return structure_answer(CardBoxRef, answer.body)

    async def append(
        self,
        claim: ClaimToken,
        payload: Any,
        *,
        role: str = "progress",
        meta: Meta | None = None,
        idempotency_key: str | None = None,
    ) -> CardBoxRef:
        """Append a record to a claimed turn.

        With a key, repeating the request appends nothing (difference 4); the reference's kernel ignores the
        key.

        Args:
            claim: the claim of the turn.
            payload: the content, any JSON value.
            role: the record's role.
            meta: annotations for the ledger event.
            idempotency_key: the same for every repeat of this record.

        Returns:
            A reference to the stored payload.

        Raises:
            FencingError: the claim does not hold any more.
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
        """Close a claimed turn.

        Args:
            claim: the claim of the turn.
            outcome: "succeeded", "failed" or "stopped".
            final_payload: the result; absent leaves no record, None leaves a record of null.
            final_record_role: the role of the result's record.
            meta: annotations for the ledger event.

        Raises:
            FencingError: the claim does not hold any more.
        """
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
        self,
        claim: ClaimToken,
        reason: str,
        *,
        note: str | None = None,
        meta: Meta | None = None,
        resume_after_seconds: float | None = None,
    ) -> None:
        """Suspend a claimed turn until it is resumed.

        Args:
            claim: the claim of the turn.
            reason: a machine-readable reason, such as `await_answer`.
            note: a text for people.
            meta: annotations for the ledger event.
            resume_after_seconds: after how long the kernel itself returns the turn to the queue, 0 to 10^9,
                by its own clock (difference 30); None leaves that to a call of `resume`.

        Raises:
            FencingError: the claim does not hold any more.
            KernelLacks: the kernel wakes no turns by itself, as the reference's; nothing was done.
        """
        body = SuspendTurn(claim=claim, reason=reason, note=note, meta=meta)
        if resume_after_seconds is not None:
            body = evolve(body, resume_after_seconds=resume_after_seconds)
        with requiring("waking a turn (resume_after_seconds)", self._kernel.base_url, "resume_after_seconds"):
            await self._kernel.send("POST", turn_path(claim.turn, ":suspend"), body=body)

    async def resume(
        self, turn: TurnRef, *, requested_by: AgentRef, note: str | None = None, meta: Meta | None = None
    ) -> None:
        """Return a suspended turn to the queue; that of another agent needs the grant `turn.resume.any`.

        Args:
            turn: the turn.
            requested_by: the calling agent.
            note: a text for people.
            meta: annotations for the ledger event.

        Raises:
            FencingError: the calling agent may not resume this turn.
            ConflictError: the turn is not suspended.
        """
        await self._kernel.send(
            "POST",
            turn_path(turn, ":resume"),
            body=ResumeTurn(requested_by=requested_by, note=note, meta=meta),
        )

    async def redo(
        self,
        turn: TurnRef,
        *,
        keep_steps: bool = False,
        key: str | None = None,
        requested_by: AgentRef | None = None,
        meta: Meta | None = None,
    ) -> TurnRef:
        """Do a closed turn again: dispatch its input anew, to the same agent. A repeat gives the same turn.

        Args:
            turn: the closed turn.
            keep_steps: carry its steps, children, questions and answers along, so that a durable handler
                goes on where it failed.
            key: the dispatch key; None is `redo:<turn>`, so that a turn is done again once.
            requested_by: who asks for it; by default the client's agent.
            meta: remarks for the ledger.

        Returns:
            The new turn.

        Raises:
            ConflictError: the turn is not closed, or the key belongs to another dispatch.
            KernelLacks: the kernel cannot do turns again, as the reference's cannot.
            UsageError: neither the call nor the client names an agent.
        """
        requester = requested_by or require_agent(self._kernel)
        with requiring("doing closed turns again", self._kernel.base_url):
            answer = await self._kernel.send(
                "POST",
                turn_path(turn, ":redo"),
                body=RedoTurn(requested_by=requester, key=key, keep_steps=keep_steps, meta=meta),
            )
        return structure_answer(TurnRef, answer.body)

    async def stop(self, turn: TurnRef, *, requested_by: AgentRef, meta: Meta | None = None) -> TurnRef:
        """Request that a turn be stopped; that of another agent needs the grant `turn.stop.any`.

        Args:
            turn: the turn.
            requested_by: the calling agent.
            meta: annotations for the ledger event.

        Returns:
            The reference of the turn.

        Raises:
            FencingError: the calling agent may not stop this turn.
        """
        answer = await self._kernel.send(
            "POST",
            turn_path(turn, ":stop", under="/management"),
            body=StopTurn(turn=turn, requested_by=requested_by, meta=meta),
        )
        return structure_answer(TurnRef, answer.body)

    async def settle_many(self, project_id: str, items: tuple[SettleItem, ...]) -> SettleAnswers:
        """Settle many turns in one request (difference 9).

        An item with `next` also claims its agent's next turn, with its context.

        Args:
            project_id: the project of all the turns.
            items: the turns, each with its outcome and its agent's credential.

        Returns:
            One answer per item, by index.

        Raises:
            NotFoundError: from the reference's kernel, which does not have this route.
        """
        path = project_path(project_id, "/turns:settle-many")
        body = SettleMany(items=items)
        answer = await self._kernel.send("POST", path, body=body, headers=REPRESENTED)
        return structure_answer(SettleAnswers, answer.body)


def _turn_or_error(answer: ItemAnswer) -> TurnRef | CommonGroundError:
    if answer.status >= 400:
        return error_of(answer.status, dumps(answer.body).decode(), {})
    return structure_answer(TurnRef, answer.body)
