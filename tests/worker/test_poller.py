"""How long a worker waits before it asks again for work."""

from __future__ import annotations

from itertools import count

import pytest

from cgworker import AgentRef, KernelClient, WorkerOptions
from cgworker.errors import KernelOverloaded, KernelTrouble, KernelUnreachable
from cgworker.worker.poller import ClaimPoller

OVERLOADED = KernelOverloaded("the database is away", status=503, retry_after_seconds=1.0)


@pytest.mark.parametrize(("trouble", "longest"), [(OVERLOADED, 2.0), (KernelUnreachable("no kernel"), 30.0)])
async def test_a_kernel_that_says_when_to_come_again_is_believed(
    trouble: KernelTrouble, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long failover of its database, claims begin again soon."""
    waits: list[float] = []
    tries = count()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask() -> str:
        if next(tries) < 12:
            raise trouble
        return "work"

    monkeypatch.setattr("cgworker.retrying.anyio.sleep", sleep)
    agent = AgentRef(project_id="p", agent_id="worker")
    async with KernelClient("http://127.0.0.1:1", agent=agent, token="t") as kernel:
        assert await ClaimPoller(kernel, WorkerOptions(), None).retry_until_answered(ask) == "work"
    assert longest / 2 <= max(waits) <= longest
