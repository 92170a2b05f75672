"""Workers whose credential is replaced, or refused for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, Worker, WorkerOptions
from cgworker.errors import CredentialRefused
from cgworker.private import replace_private
from cgworker.testing import LocalKernel
from cgworker.worker.process.health import WorkerHealth
from tests.journeys.conftest import closed, working

OPTIONS = WorkerOptions(concurrency=1, wait_seconds=1, refused_seconds=0.6)


async def answer(turn: Turn) -> Any:
    return turn.input


async def revoke_first(boss: KernelClient, desk: KernelClient) -> None:
    """Revoke the oldest credential of the desk."""
    assert desk.agent is not None
    oldest = min(await boss.credentials.all_of(desk.agent), key=lambda each: each.created_at)
    await boss.credentials.revoke(desk.agent, oldest.credential_id)


async def test_a_worker_goes_on_with_a_token_that_was_replaced(kernel: LocalKernel, tmp_path: Path) -> None:
    """Its old one is revoked; it never fails, and needs no new start."""
    async with await kernel.agent("desk") as desk:
        file = tmp_path / "desk.token"
        replace_private(file, desk.secrets[0])
        boss = await kernel.agent(
            "boss", grants=["agent.credential.issue.any", "agent.credential.revoke.any"]
        )
        async with (
            KernelClient(kernel.base_url, agent=desk.agent, token_file=file) as rotated,
            working(Worker(rotated, answer, options=OPTIONS)),
        ):
            await closed(boss, await kernel.dispatch("desk", 1))
            assert desk.agent is not None
            issued = await boss.credentials.issue(desk.agent)
            replace_private(file, issued.token)
            await revoke_first(boss, desk)
            for number in range(3):
                turn = await kernel.dispatch("desk", number)
                assert (await closed(boss, turn)).final_payload == number


async def test_a_worker_whose_credential_stays_refused_ends_and_says_so(kernel: LocalKernel) -> None:
    """Not ready meanwhile."""
    desk = await kernel.agent("desk")
    boss = await kernel.agent("boss", grants=["agent.credential.revoke.any"])
    worker = Worker(desk, answer, options=OPTIONS)
    health = WorkerHealth(worker)
    faults: list[str | None] = []

    async def look() -> None:
        while True:
            faults.append(await health.fault())
            await anyio.sleep(0.05)

    async def refuse() -> None:
        await anyio.sleep(0.3)
        await revoke_first(boss, desk)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as beside:
            beside.start_soon(look)
            beside.start_soon(refuse)
            with pytest.raises(CredentialRefused, match=r"refused the credential of .*desk for 0\.6 s"):
                await worker.run()
            beside.cancel_scope.cancel()
    assert any(fault and "refuses its credential" in fault for fault in faults)


async def test_one_refused_worker_does_not_end_those_that_work(kernel: LocalKernel) -> None:
    """It is not ready, and goes on trying: its credential may come back. When all are refused, all end."""
    desk, bell = await kernel.agent("desk"), await kernel.agent("bell")
    boss = await kernel.agent("boss", grants=["agent.credential.revoke.any"])
    refused, works = Worker(desk, answer, options=OPTIONS), Worker(bell, answer, options=OPTIONS)
    health = WorkerHealth(refused)
    ended: list[BaseException] = []

    async def run(worker: Worker) -> None:
        try:
            await worker.run()
        except CredentialRefused as error:
            ended.append(error)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as running:
            running.start_soon(run, works)
            running.start_soon(run, refused)
            await closed(boss, await kernel.dispatch("bell", 1))
            await revoke_first(boss, desk)
            await anyio.sleep(4)
            assert ended == []
            assert "refuses its credential" in str(await health.fault())
            assert (await closed(boss, await kernel.dispatch("bell", 2))).final_payload == 2
            await revoke_first(boss, bell)
    assert len(ended) == 2
