"""A kernel killed at any point of a request leaves nothing half done, and whoever asks again is answered."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest
from attrs import define, field

from cgworker.kernel.app import open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.killing import HELD_TABLES, MOMENTS, MortalKernel, Watch
from tests.kernel.project import Agent, Project, token_of
from tests.kernel.soundness import faults_of

PROJECT = "p-mortal"
LANES = 4
RANDOM_KILLS = 3
LONGEST_LIFE_SECONDS = 0.4
GRANTS = ("agent.registration.birth", "turn.stop.any")
REPEATED = (200, 409)  # what was done before the kernel died may be refused the second time

Ask = Callable[[], Awaitable[httpx.Response]]


@define
class Lane:
    """An agent that makes every kind of request, one after the other, and repeats what was not answered.

    Attributes:
        turn_count: how many turns it made.
    """

    agent: Agent
    kernel: MortalKernel
    watch: Watch
    ended: anyio.Event
    dice: random.Random
    turn_count: int = 0
    agent_count: int = 0
    repeated: int = 0
    _serial: int = field(default=0, init=False)

    async def live(self) -> None:
        """Until the test ends, and then to the end of the round."""
        while not self.ended.is_set():
            await self._work_a_turn()
            await self._wait_for_a_turn()
            await self._suspend_and_stop()
            await self._report()
            await self._register()
            await self._invite()

    async def must(self, ask: Ask, *, when_repeated: tuple[int, ...] = (200,)) -> Any:
        """The answer of a request that is right, asked again until there is one."""
        right: tuple[int, ...] = (200,)
        while True:
            try:
                answer = await ask()
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code != 503:
                assert answer.status_code in right, answer.text
                return answer.json()
            self.repeated += 1
            right = when_repeated
            await self.kernel.alive.wait()

    def _key(self) -> str:
        self._serial += 1
        return f"{self.agent.ref.agent_id}-{self._serial}"

    async def _dispatch(self, **more: Any) -> str:
        body = self.agent.dispatching(self.agent, self._key(), **more)
        turn = await self.must(lambda: self.agent.ask("POST", "turns:dispatch", body))
        self.turn_count += 1
        return str(turn["turn_id"])

    async def _claim(self, turn_id: str) -> Any:
        """The claim of the one turn that waits; with a key or without."""
        path = f"agents/{self.agent.ref.agent_id}/claims:claim"
        headers = self.dice.choice([{}, {"Idempotency-Key": self._key()}])
        before = self.repeated

        async def ask() -> httpx.Response:
            return await self.agent.ask("POST", path, {"agent": self.agent.json}, headers)

        while (claim := await self.must(ask)) is None:
            # Taken by a claim without a key whose answer was lost: it comes back when its lease ends.
            assert self.repeated > before
            assert not headers
            await self.watch.end_lease(PROJECT, turn_id)
        assert claim["turn_id"] == turn_id
        await self.must(lambda: self.agent.renew(claim))
        return claim

    async def _work_a_turn(self) -> None:
        agent, turn_id = self.agent, await self._dispatch(input="work")
        claim = await self._claim(turn_id)
        key = {"Idempotency-Key": self._key()}
        await self.must(lambda: agent.append(claim, {"step": 1}, key))
        child = await self._dispatch(authority={"mode": "child_derivation", "parent_claim": token_of(claim)})
        await self.must(lambda: agent.finish(claim, final_payload={"done": turn_id}))
        turn = await self.must(lambda: agent.ask("GET", f"turns/{turn_id}"))
        assert (turn["state"], turn["final_payload"]) == ("closed", {"done": turn_id})
        context = await self.must(lambda: agent.ask("GET", f"turns/{turn_id}/context"))
        roles = [item["record"]["record_role"] for item in context["semantic_items"]]
        assert roles[1:] == ["progress", "deliverable"]
        claim = await self._claim(child)
        await self.must(lambda: agent.finish(claim, "failed"))

    async def _wait_for_a_turn(self) -> None:
        """It is handed over, unless the kernel dies before."""
        path = f"agents/{self.agent.ref.agent_id}/claims:claim"
        headers = {"Idempotency-Key": self._key(), "Prefer": "wait=1"}
        turn_ids: list[str] = []

        async def dispatch() -> None:
            await anyio.sleep(0.01)
            turn_ids.append(await self._dispatch())

        async def ask() -> httpx.Response:
            return await self.agent.ask("POST", path, {"agent": self.agent.json}, headers)

        async with anyio.create_task_group() as group:
            group.start_soon(dispatch)
            while (claim := await self.must(ask)) is None:
                pass
        assert [claim["turn_id"]] == turn_ids
        await self.must(lambda: self.agent.finish(claim))

    async def _suspend_and_stop(self) -> None:
        agent, turn_id = self.agent, await self._dispatch()
        claim = await self._claim(turn_id)
        await self.must(lambda: agent.suspend(claim))
        await self.must(lambda: agent.resume(turn_id), when_repeated=REPEATED)
        await self._claim(turn_id)
        await self.watch.end_lease(PROJECT, turn_id)  # or a stop would only be asked for
        await self.must(lambda: agent.stop(turn_id), when_repeated=REPEATED)
        turn = await self.must(lambda: agent.ask("GET", f"turns/{turn_id}"))
        assert (turn["state"], turn["outcome"]) == ("closed", "stopped")

    async def _report(self) -> None:
        path = f"agents/{self.agent.ref.agent_id}/work-memory-reports"
        report = {
            "request_id": self._key(),
            "records": [{"role": "note", "payload": 1}, {"role": "note", "payload": 2}],
            "final_payload": {"done": True},
        }
        await self.must(lambda: self.agent.ask("POST", path, report))
        self.turn_count += 1
        await self.must(lambda: self.agent.ask("GET", "projection/feed"))

    async def _register(self) -> None:
        agent, name = self.agent, self._key()
        spec = {"agent_id": name, "role": "tester"}
        birth = {"spec": spec, "provenance": {"kind": "test", "external_ref": name}}
        await self.must(lambda: agent.ask("POST", "agents:register", birth), when_repeated=REPEATED)
        born = {"project_id": agent.ref.project_id, "agent_id": name}
        change = {"agent": born, "requested_by": agent.json, "capacity": 2}
        await self.must(lambda: agent.ask("POST", f"management/agents/{name}:update", change))
        self.agent_count += 1

    async def _invite(self) -> None:
        name = self._key()
        bearer = {"Authorization": f"Bearer {self.kernel.bearer_file.read_text().strip()}"}
        invites = f"/admin/v1/projects/{self.agent.ref.project_id}/agent-join-invites"
        client = self.agent.project.client
        invite = {"agent_id": name, "single_use": False, "max_uses": 9}
        made = await self.must(lambda: client.post(invites, json=invite, headers=bearer))
        code = {"join_code": made["join_code"]}
        await self.must(lambda: client.post("/admin/v1/agent-joins:redeem", json=code))
        self.agent_count += 1


@pytest.fixture
async def watch(dsn: str) -> AsyncIterator[Watch]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        watch = Watch(pool)
        await watch.prepare()
        yield watch


@pytest.fixture
async def mortal(dsn: str, tmp_path: Path) -> AsyncIterator[MortalKernel]:
    mortal = MortalKernel(PROJECT, dsn, tmp_path)
    await mortal.start()
    yield mortal
    mortal.kill()


async def test_a_kernel_killed_at_any_point_leaves_nothing_half_done(
    mortal: MortalKernel, watch: Watch
) -> None:
    """Killed while statements are held at each table, at random, and its connections ended under it."""
    seed = int(os.environ.get("CG_TEST_SEED") or random.randrange(2**32))
    print(f"CG_TEST_SEED={seed} repeats the dice")  # noqa: T201  # shown when the test fails
    dice, ended = random.Random(seed), anyio.Event()
    async with httpx.AsyncClient(base_url=mortal.base_url, timeout=30) as client:
        agents = await _agents(mortal.dsn, client)
        lanes = [Lane(agent, mortal, watch, ended, random.Random(seed + n)) for n, agent in enumerate(agents)]
        async with anyio.create_task_group() as group:
            for lane in lanes:
                group.start_soon(lane.live)
            await _kill_again_and_again(mortal, watch, dice)
            ended.set()
        assert await faults_of(watch.pool) == {}
        assert all(lane.repeated for lane in lanes)
        await _check_counts(watch, lanes)


async def _agents(dsn: str, client: httpx.AsyncClient) -> list[Agent]:
    """Agents that speak to the kernel at the client's address."""
    async with Database.open(dsn) as database, open_kernel(KernelConfig(), database) as kernel:
        project = Project(kernel, client, PROJECT)
        return [await project.agent(f"lane-{n}", grants=GRANTS) for n in range(LANES)]


async def _kill_again_and_again(mortal: MortalKernel, watch: Watch, dice: random.Random) -> None:
    for table in HELD_TABLES:
        async with watch.holding(table, dice.choice(MOMENTS)):
            await watch.end_statements()
        async with watch.holding(table, dice.choice(MOMENTS)):
            mortal.kill()
        await _begin_again(mortal, watch)
    for _ in range(RANDOM_KILLS):
        await anyio.sleep(dice.uniform(0, LONGEST_LIFE_SECONDS))
        mortal.kill()
        await _begin_again(mortal, watch)


async def _begin_again(mortal: MortalKernel, watch: Watch) -> None:
    """Nobody is at work now: what a statement has left is there to see."""
    await watch.alone()
    assert await faults_of(watch.pool) == {}
    await mortal.start()


async def _check_counts(watch: Watch, lanes: list[Lane]) -> None:
    """Nothing that was asked for is missing, and nothing was done twice."""
    turns = "select count(*) from cg_turns where project_id = $1"
    agents = "select count(*) from cg_agents where project_id = $1 and agent_id like 'lane-%-%'"
    assert await watch.pool.fetchval(turns, PROJECT) == sum(lane.turn_count for lane in lanes)
    assert await watch.pool.fetchval(agents, PROJECT) == sum(lane.agent_count for lane in lanes)
