"""Claim, renew and settle many turns in one request, where the kernel supports that (difference 9).

A kernel without the batch routes, such as the reference's, is asked for them once every five minutes; in
between each call uses its single route. So does a call that is alone in its batch, and every call of a batch
that was refused as a whole: one wrong call must not harm the others.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any

from attrs import define, field

from cgworker.client import KernelClient
from cgworker.client.transport import error_of
from cgworker.errors import AnswerInvalid, CommonGroundError, KernelRefused
from cgworker.lease import monotonic
from cgworker.wire.absent import ABSENT
from cgworker.wire.claims import ClaimedTurn, ClaimItem, Renewal, RenewItem
from cgworker.wire.converter import dumps, structure_answer
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.wire.turns import (
    Finish,
    ItemAnswer,
    ItemAnswers,
    NextClaim,
    SettleAnswer,
    SettleAnswers,
    SettleItem,
    Suspend,
)
from cgworker.worker.batching.batcher import CallBatcher, loop_local
from cgworker.worker.batching.keys import new_key

MAX_CLAIMED = 5
"""The most turns that one agent asks for at once; times the agents in a batch, one request may ask for."""

_RENEWALS_GATHER_SECONDS = 0.01  # timers that are due at one instant fire one after the other
_UNKNOWN_ROUTE = frozenset({404, 405})
_ASK_AGAIN_SECONDS = 300.0
_MAX_SETTLE_REQUESTS = 2  # requests at once: one travels while the kernel works on the other
_MAX_BATCHED_BYTES = 65536  # the whole request has a limit


def _nothing(*_: Any) -> None:
    """Read nothing from an answer."""


@define(eq=False)  # half as dear as a frozen one, and each turn makes one
class _Item:
    """A call that may go in a batch.

    Attributes:
        kernel: the client to call with.
        item: the call as an item of the batch route.
        single: makes the call by its single route.
        read: turns the answer to the item into the result.
        note: called before `read`, also after a refusal, with the answer and when it arrived.
        count: how many turns the call covers; a call that covers more than one uses the batch route even if
            it is alone.
    """

    kernel: KernelClient
    item: Any
    single: Callable[[], Awaitable[Any]]
    read: Callable[[Any], Any] = _nothing
    note: Callable[[Any, float], None] = _nothing
    count: int = 1


class _BatchRefused(Exception):
    """The batch was refused as a whole, so that each of its calls is to be made by itself."""


class BatchedCall:
    """Batches the calls of one kind to one kernel; `loop_local` shares it among workers.

    Args:
        send_many: sends items in one request, with the given client and project.
        project_id: the project of the items.
        gather_seconds: how long the first call of a batch waits for others.
        max_under_way: the most requests under way at once.
    """

    def __init__(
        self,
        send_many: Callable[[KernelClient, str, tuple[Any, ...]], Awaitable[ItemAnswers | SettleAnswers]],
        project_id: str,
        *,
        gather_seconds: float = 0,
        max_under_way: int = 1,
    ) -> None:
        self._send_many = send_many
        self._project_id = project_id
        self._batcher: CallBatcher[_Item, Any] = CallBatcher(
            self._send, gather_seconds=gather_seconds, max_under_way=max_under_way
        )
        self._ask_again_at: float | None = None

    async def call(
        self,
        kernel: KernelClient,
        item: Any,
        single: Callable[[], Awaitable[Any]],
        *,
        read: Callable[[Any], Any] = _nothing,
        note: Callable[[Any, float], None] = _nothing,
        count: int = 1,
        own_request: bool = False,
    ) -> Any:
        """Make the call, in a batch if others wait, and return the result of `read` or `single`.

        Args:
            kernel: the client to call with.
            item: the call as an item of the batch route.
            single: makes the call by its single route.
            read: turns the answer to the item into the result.
            note: called with the answer, also a refusal, and when it arrived; not if `single` was used.
            count: how many turns the call covers.
            own_request: use the batch route, but in a request of its own.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: as `single` would.
        """
        if self._ask_again_at is not None and monotonic() < self._ask_again_at:
            return await single()
        call = _Item(kernel, item, single, read, note, count)
        try:
            return _result(await self._send([call])) if own_request else await self._batcher(call)
        except _BatchRefused:
            return await single()

    async def _send(self, calls: Sequence[_Item]) -> Sequence[Any]:
        if len(calls) == 1 and calls[0].count == 1:
            return [await calls[0].single()]
        try:
            items = tuple(call.item for call in calls)
            answers = await self._send_many(calls[0].kernel, self._project_id, items)
        except (TypeError, ValueError):  # an item cannot be written as JSON
            return [_BatchRefused() for _ in calls]
        except (KernelRefused, AnswerInvalid) as refused:
            if getattr(refused, "status", None) in _UNKNOWN_ROUTE:  # or a proxy's, as the kernel restarts
                self._ask_again_at = monotonic() + _ASK_AGAIN_SECONDS
            return [_BatchRefused() for _ in calls]
        if len(answers.items) != len(calls):
            return [_BatchRefused() for _ in calls]
        now = monotonic()
        return [_read_answer(call, answer, now) for call, answer in zip(calls, answers.items, strict=True)]


def _read_answer(call: _Item, answer: ItemAnswer, answered_at: float) -> Any | CommonGroundError:
    call.note(answer, answered_at)
    if answer.status in (401, 403):  # the single route reads the token file again
        return _BatchRefused()
    if answer.status >= 400:
        return error_of(answer.status, dumps(answer.body).decode(), {})
    try:
        return call.read(answer.body)
    except AnswerInvalid as invalid:
        return invalid


def _result(answers: Sequence[Any]) -> Any:
    [answer] = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def _batched_call(
    kernel: KernelClient,
    project_id: str,
    verb: Hashable,
    send_many: Callable[[KernelClient, str, tuple[Any, ...]], Awaitable[ItemAnswers | SettleAnswers]],
    *,
    gather_seconds: float = 0,
    max_under_way: int = 1,
) -> BatchedCall:
    """Return the batch that the workers of this event loop share for such calls to a kernel and project."""

    def make() -> BatchedCall:
        return BatchedCall(send_many, project_id, gather_seconds=gather_seconds, max_under_way=max_under_way)

    return loop_local((verb, kernel.route, project_id), make)


async def claim(
    kernel: KernelClient, agent: AgentRef, limit: int, *, key: str, own_request: bool = False
) -> tuple[ClaimedTurn, ...]:
    """Claim the agent's queued turns without waiting, in one request with other agents.

    A kernel that does not know the batch route gives at most one turn.

    Args:
        kernel: the kernel, with the agent's identity.
        agent: the agent.
        limit: the most turns to claim.
        key: the Idempotency-Key; a repeat with it gives the same turns again (difference 4).
        own_request: use a request of its own, as after the answer to a batch was lost.

    Raises:
        KernelRefused, KernelTrouble, AnswerInvalid: as for a single claim.
    """

    async def single() -> tuple[ClaimedTurn, ...]:
        claimed = (await kernel.claims.claim(agent, idempotency_key=key)).claimed
        return () if claimed is None else (claimed,)

    if (credential := kernel.token) is None:
        return await single()
    calls = _batched_call(kernel, agent.project_id, "claim", lambda one, *rest: one.claims.claim_many(*rest))
    item = ClaimItem(agent=agent, credential=credential, limit=limit, idempotency_key=key)
    claimed: tuple[ClaimedTurn, ...] = await calls.call(
        kernel,
        item,
        single,
        read=partial(structure_answer, tuple[ClaimedTurn, ...]),
        count=limit,
        own_request=own_request,
    )
    return claimed


async def renew(kernel: KernelClient, claim: ClaimToken) -> Renewal:
    """Renew a claim, in one request with others that are due.

    Raises:
        KernelRefused, KernelTrouble, AnswerInvalid: as for a single renewal.
    """
    if (credential := kernel.token) is None:
        return await kernel.claims.renew(claim)
    calls = _batched_call(
        kernel,
        claim.project_id,
        "renew",
        lambda one, *rest: one.claims.renew_many(*rest),
        gather_seconds=_RENEWALS_GATHER_SECONDS,
    )
    item = RenewItem(claim=claim, credential=credential)
    renewal: Renewal = await calls.call(
        kernel, item, lambda: kernel.claims.renew(claim), read=partial(structure_answer, Renewal)
    )
    return renewal


@define(eq=False)
class PrefetchedClaim:
    """A claim that goes along with a settle request, for the slot that settling frees.

    Attributes:
        key: its Idempotency-Key, since the settle request may be repeated.
        asked_at: when the last request for it was about to be sent, on `lease.monotonic`; 0 before.
        answered_at: when the answer had arrived; 0 before.
        is_answered: whether the kernel has answered the claim.
        claimed: the agent's next turn, if there was one.
    """

    key: str = field(factory=new_key)
    asked_at: float = 0.0
    answered_at: float = 0.0
    is_answered: bool = False
    claimed: ClaimedTurn | None = None

    def collect(self, answer: SettleAnswer, answered_at: float) -> None:
        """Take the kernel's answer. An error of the kernel, or an unreadable answer, counts as no answer."""
        if not isinstance(said := answer.next, ItemAnswer) or said.status >= 500:
            return
        if said.status == 200 and said.body is not None:
            try:
                self.claimed = structure_answer(ClaimedTurn, said.body)
            except AnswerInvalid:
                return
        self.is_answered, self.answered_at = True, answered_at


def settlements_at(kernel: KernelClient, project_id: str) -> BatchedCall:
    """Return what batches the calls of `settle` to a kernel and project, in this event loop."""
    return _batched_call(
        kernel,
        project_id,
        "settle",
        lambda one, *rest: one.turns.settle_many(*rest),
        max_under_way=_MAX_SETTLE_REQUESTS,
    )


async def settle(
    kernel: KernelClient,
    claim: ClaimToken,
    outcome: Finish | Suspend,
    prefetch: PrefetchedClaim | None = None,
    *,
    max_size: float = math.inf,
    batch: BatchedCall | None = None,
) -> None:
    """Finish or suspend the turn, in one request with others that wait.

    Args:
        kernel: the kernel, with the agent's identity.
        claim: the claim of the turn.
        outcome: the request to finish or suspend.
        prefetch: a claim of the agent's next turn to make in the same request, if the kernel can do that.
        max_size: a bound of the payload's size, in bytes, which may spare measuring it.
        batch: what `settlements_at` returned for the kernel and the project; by default it is looked up.

    Raises:
        KernelRefused, KernelTrouble, AnswerInvalid: as for a single call.
        KernelLacks: the kernel cannot wake the turn that is to be suspended.
    """

    async def single() -> None:
        if isinstance(outcome, Finish):
            payload, role = outcome.final_payload, outcome.final_record_role
            await kernel.turns.finish(claim, outcome.outcome, final_payload=payload, final_record_role=role)
        else:
            seconds = outcome.resume_after_seconds
            delay = None if seconds is ABSENT else seconds
            await kernel.turns.suspend(
                claim, outcome.reason, note=outcome.note, meta=outcome.meta, resume_after_seconds=delay
            )

    credential = kernel.token
    if credential is None or (max_size > _MAX_BATCHED_BYTES and _is_large(outcome)):
        await single()
        return
    item = SettleItem(
        claim=claim,
        credential=credential,
        finish=outcome if isinstance(outcome, Finish) else None,
        suspend=outcome if isinstance(outcome, Suspend) else None,
        next=ABSENT if prefetch is None else NextClaim(idempotency_key=prefetch.key),
    )
    batch = batch or settlements_at(kernel, claim.project_id)
    if prefetch is None:
        await batch.call(kernel, item, single)
    else:
        prefetch.asked_at = monotonic()
        await batch.call(kernel, item, single, note=prefetch.collect, count=2)


def _is_large(outcome: Finish | Suspend) -> bool:
    if isinstance(outcome, Suspend) or outcome.final_payload is ABSENT:
        return False
    return len(dumps(outcome.final_payload)) > _MAX_BATCHED_BYTES
