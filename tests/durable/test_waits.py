"""Tasks of one handler wait together."""

from __future__ import annotations

import anyio
import pytest

from cgworker.durable.waits import Waits, own_clock

pytestmark = pytest.mark.anyio


async def test_a_task_that_was_started_before_gets_to_what_it_waits_for() -> None:
    """Else the suspension would cancel it before it has begun; on trio, tasks run in any order."""
    for _ in range(20):
        waits = Waits(own_clock)
        entered: list[str] = []

        async def enter(waits: Waits = waits, entered: list[str] = entered) -> None:
            async with waits.entering():
                await anyio.sleep(0.001)  # as a request would take
                entered.append("entered")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await waits.until_all_entered()
            assert entered == ["entered"]
