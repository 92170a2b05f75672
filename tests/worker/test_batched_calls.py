"""Many calls in one request, where the kernel takes that."""

from __future__ import annotations

import anyio.lowlevel
import pytest

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, ConflictError, KernelRefused, NotFoundError
from cgworker.wire.turns import ItemAnswer, ItemAnswers
from cgworker.worker.batching.calls import BatchedCall


class Kernel:
    """Counts what is sent to it, and answers as told."""

    def __init__(self, refusal: CommonGroundError | None = None) -> None:
        self.requests: list[object] = []
        self._refusal = refusal
        self.bundle = BatchedCall(self.send_many, "p")
        self.answers: dict[int, object] = {}

    async def send_many(self, _: KernelClient, _project_id: str, items: tuple[int, ...]) -> ItemAnswers:
        self.requests.append(sorted(items))
        await anyio.lowlevel.checkpoint()
        if self._refusal:
            raise self._refusal
        refused = {"error": "ConflictError", "message": "no"}
        return ItemAnswers(
            items=tuple(
                ItemAnswer(status=409 if one < 0 else 200, body=refused if one < 0 else one) for one in items
            )
        )

    async def call(self, one: int) -> None:
        async def alone() -> object:
            self.requests.append(one)
            await anyio.lowlevel.checkpoint()
            return one

        try:
            kernel = KernelClient("http://127.0.0.1:1")
            self.answers[one] = await self.bundle.call(kernel, one, alone, read=lambda body: body)
        except KernelRefused as refused:
            self.answers[one] = type(refused)

    async def call_all(self, *ones: int) -> None:
        async with anyio.create_task_group() as group:
            for one in ones:
                group.start_soon(self.call, one)


async def test_a_call_that_is_alone_goes_by_its_single_route() -> None:
    """Nothing changes for a worker that has one turn at a time."""
    kernel = Kernel()
    await kernel.call_all(1)
    assert (kernel.requests, kernel.answers) == ([1], {1: 1})


async def test_calls_that_wait_go_in_one_request_and_are_answered_each_on_its_own() -> None:
    """Sixteen turns cost fewer requests than turns; a refusal is that of its own turn."""
    kernel = Kernel()
    await kernel.call_all(*range(1, 16), -16)
    assert len(kernel.requests) <= 3
    assert kernel.answers == {**{one: one for one in range(1, 16)}, -16: ConflictError}


async def test_a_kernel_that_does_not_know_the_route_is_asked_once() -> None:
    """The reference's: from then on every call goes by its single route (difference 26)."""
    kernel = Kernel(NotFoundError("no such route"))
    await kernel.call_all(1, 2, 3, 4)
    await kernel.call_all(5, 6, 7)
    assert sum(isinstance(request, list) for request in kernel.requests) == 1
    assert kernel.answers == {one: one for one in range(1, 8)}


@pytest.mark.parametrize("status", [413, 422])
async def test_a_group_refused_as_a_whole_is_sent_one_by_one(status: int) -> None:
    """What is wrong with one call must not harm the others; the next group is tried again."""
    kernel = Kernel(KernelRefused("no", code="no", status=status))
    await kernel.call_all(1, 2, 3)
    await kernel.call_all(4, 5, 6)
    assert sum(isinstance(request, list) for request in kernel.requests) >= 2
    assert kernel.answers == {one: one for one in range(1, 7)}
