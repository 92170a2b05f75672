"""Claims that wait at a kernel while a test does something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from tests.kernel.project import Agent

WAIT = {"Prefer": "wait=60"}
# Below the wait, and far above what anything takes. No kernel of these tests looks by the clock.
QUICK_SECONDS = 45.0


class Waiter:
    """A claim that waits, in a task of its own."""

    def __init__(self, agent: Agent, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        path = f"agents/{agent.ref.agent_id}/claims:claim"
        self.task = asyncio.create_task(agent.ask("POST", path, {"agent": agent.json, **body}, headers))

    @property
    def is_answered(self) -> bool:
        return self.task.done()

    async def status(self) -> int:
        async with asyncio.timeout(QUICK_SECONDS):
            return (await self.task).status_code

    async def claim(self) -> Any:
        """What it was given, within a time in which nobody looks again by the clock."""
        assert await self.status() == 200, self.task.result().text
        return self.task.result().json()


async def waiting(agent: Agent, headers: Mapping[str, str] = WAIT, **body: Any) -> Waiter:
    """A claim that found nothing and waits now."""
    parked = agent.project.kernel.operations.parked
    before = parked.count
    waiter = Waiter(agent, headers, body)
    await until(lambda: parked.count > before)
    return waiter


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(QUICK_SECONDS):
        while not is_so():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.005)
