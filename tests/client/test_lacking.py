"""What a kernel lacks is told apart from what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import pytest

from cgworker import AgentRef, ConflictError, KernelClient, TurnRef, UsageError
from cgworker.errors import FencingError, InvalidRequest, KernelLacks, NotFoundError
from cgworker.wire.order import Order
from cgworker.wire.turns import Dispatch, RootRequest
from tests.client.peer import Peer

TURN = TurnRef(project_id="p", turn_id="T-1")


@pytest.mark.parametrize(("status", "said"), [(404, "Not Found"), (405, "Method Not Allowed")])
async def test_a_kernel_without_the_route_lacks_it(
    status: int, said: str, answering: Callable[..., Peer]
) -> None:
    """The error says what is missing, and on which kernel; nothing is dropped in silence."""
    kernel = answering({"detail": said}, status=status).kernel()
    with pytest.raises(
        KernelLacks, match=r"the kernel at http.* lacks this: telling turns something"
    ) as told:
        await kernel.turns.tell(TURN, "hello")
    assert told.value.kernel == kernel.base_url


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [
        (404, "NotFoundError", NotFoundError),
        (409, "ConflictError", ConflictError),
        (409, "FencingError", FencingError),
    ],
)
async def test_a_refusal_stays_a_refusal(
    status: int, error: str, raised: type[Exception], answering: Callable[..., Peer]
) -> None:
    """A turn that is not there is no kernel that lacks something."""
    peer = answering({"error": error, "message": "no"}, status=status)
    with pytest.raises(raised):
        await peer.kernel().turns.tell(TURN, "hello")


async def test_a_kernel_that_cannot_wait_for_records_lacks_that(answering: Callable[..., Peer]) -> None:
    """It answers at once, and does not say that it would have waited."""
    page: dict[str, Any] = {"turn": {}, "semantic_items": []}
    with pytest.raises(KernelLacks, match="waiting for a turn's records"):
        await answering(page).kernel().turns.wait_for_records(TURN, after_turn_seq=1, wait_seconds=5)


async def test_telling_needs_to_know_who_tells() -> None:
    """A client without an agent is a fault of the program; nothing is sent."""
    async with KernelClient("http://127.0.0.1:9") as kernel:
        with pytest.raises(UsageError, match="a client with an agent"):
            await kernel.turns.tell(TURN, "hello")


ORDERS: tuple[Order, ...] = (
    {"priority": 1},
    {"delay_seconds": 1.0},
    {"serial_key": "s", "fairness_key": "f"},
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(order))
async def test_a_kernel_without_the_order_of_claims_lacks_it(
    order: Order, answering: Callable[..., Peer]
) -> None:
    """Each field that it refuses as unknown is named; it is never left out in silence."""
    faults = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
        for name in order
    ]
    kernel = answering({"detail": faults}, status=422).kernel()
    with pytest.raises(KernelLacks, match=f"dispatches with {', '.join(order)}"):
        await kernel.turns.dispatch(_dispatch(**order))


async def test_a_bad_value_of_the_order_is_no_lack(answering: Callable[..., Peer]) -> None:
    """The kernel knows the field, and refuses the value."""
    fault = {"type": "value_error", "loc": ["body", "priority"], "msg": "Value error, too high"}
    with pytest.raises(InvalidRequest):
        await answering({"detail": [fault]}, status=422).kernel().turns.dispatch(_dispatch(priority=1000))


async def test_a_kernel_without_the_route_cannot_dispatch_many(answering: Callable[..., Peer]) -> None:
    """The caller may dispatch one by one instead, which is for the caller to decide."""
    kernel = answering({"detail": "Method Not Allowed"}, status=405).kernel()
    with pytest.raises(KernelLacks, match="dispatching many turns in one request"):
        await kernel.turns.dispatch_many([_dispatch()])


@pytest.mark.parametrize("count", [0, 201])
async def test_dispatch_many_takes_one_to_200(count: int, answering: Callable[..., Peer]) -> None:
    """Others are refused before anything is sent."""
    peer = answering({})
    with pytest.raises(UsageError, match="1 to 200"):
        await peer.kernel().turns.dispatch_many([_dispatch()] * count)


def _dispatch(**order: Unpack[Order]) -> Dispatch:
    agent = AgentRef(project_id="p", agent_id="a")
    authority = RootRequest(request_id="k")
    return Dispatch(
        requested_by=agent, target_agent=agent, input=1, dispatch_key="k", authority=authority, **order
    )
