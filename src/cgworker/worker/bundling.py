"""Calls of many turns and agents in one request, where the kernel takes that (decision 9).

A kernel that does not know the routes for many, as the reference's, is asked once; from then on each call
goes by its single route. So does one that is alone, and every one whose group was refused as a whole: what
is wrong with one must not harm the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import frozen

from cgworker.client import KernelClient
from cgworker.client.transport import error_of
from cgworker.errors import AnswerInvalid, CommonGroundError, KernelRefused
from cgworker.wire.converter import ABSENT, dumps
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import Finish, ItemAnswer, ItemAnswers, SettleItem, Suspend
from cgworker.worker.combining import Combining, shared

_UNKNOWN_ROUTE = frozenset({404, 405})
_MOST_BUNDLED_BYTES = 65536  # a request has a limit as a whole


@frozen(eq=False)
class _Bundled:
    """A call that may go with others: as an item of theirs, or on its own."""

    kernel: KernelClient
    item: Any
    alone: Callable[[], Awaitable[Any]]


class _GoAlone(Exception):
    """The group was refused as a whole."""


class Bundle:
    """Calls of one kind to one kernel; see `shared`.

    Args:
        send_many: sends items in one request, as the given client.
    """

    def __init__(self, send_many: Callable[[KernelClient, tuple[Any, ...]], Awaitable[ItemAnswers]]) -> None:
        self._send_many = send_many
        self._combining: Combining[_Bundled, Any] = Combining(self._send)
        self._is_known = True

    async def call(self, kernel: KernelClient, item: Any, alone: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call with those that wait; returns the answer's body.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: as `alone` would.
        """
        if not self._is_known:
            return await alone()
        try:
            return await self._combining(_Bundled(kernel, item, alone))
        except _GoAlone:
            return await alone()

    async def _send(self, calls: Sequence[_Bundled]) -> Sequence[Any]:
        if len(calls) == 1:
            return [await calls[0].alone()]
        try:
            answers = await self._send_many(calls[0].kernel, tuple(call.item for call in calls))
        except (KernelRefused, AnswerInvalid) as refused:
            self._is_known = getattr(refused, "status", None) not in _UNKNOWN_ROUTE
            return [_GoAlone() for _ in calls]
        if len(answers.items) != len(calls):
            return [_GoAlone() for _ in calls]
        return [_body_or_error(answer) for answer in answers.items]


def _body_or_error(answer: ItemAnswer) -> Any | CommonGroundError:
    if answer.status < 400:
        return answer.body
    return error_of(answer.status, dumps(answer.body).decode(), {})


# ---------------------------------------------------------------- settling


async def settle(kernel: KernelClient, claim: ClaimToken, outcome: Finish | Suspend) -> None:
    """Finish or suspend the turn, in one request with others that wait."""

    async def alone() -> None:
        if isinstance(outcome, Finish):
            await kernel.turns.finish(
                claim,
                outcome.outcome,
                final_payload=outcome.final_payload,
                final_record_role=outcome.final_record_role,
            )
        else:
            await kernel.turns.suspend(claim, outcome.reason, note=outcome.note, meta=outcome.meta)

    if not kernel.secrets or _is_large(outcome):
        await alone()
        return
    item = SettleItem(
        claim=claim,
        credential=kernel.secrets[0],
        finish=outcome if isinstance(outcome, Finish) else None,
        suspend=outcome if isinstance(outcome, Suspend) else None,
    )
    project_id = claim.project_id

    async def send_many(kernel: KernelClient, items: tuple[SettleItem, ...]) -> ItemAnswers:
        return await kernel.turns.settle_many(project_id, items)

    bundle = shared(("settle", kernel.route, project_id), lambda: Bundle(send_many))
    await bundle.call(kernel, item, alone)


def _is_large(outcome: Finish | Suspend) -> bool:
    if isinstance(outcome, Suspend) or outcome.final_payload is ABSENT:
        return False
    return len(dumps(outcome.final_payload)) > _MOST_BUNDLED_BYTES
