"""What a kernel lacks is told apart from what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cgworker import ConflictError, KernelClient, TurnRef, UsageError
from cgworker.errors import FencingError, KernelLacks, NotFoundError
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
