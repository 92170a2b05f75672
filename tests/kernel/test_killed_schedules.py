"""Schedules while kernels are killed: every instant is dispatched once (difference 31)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.kernel.killing import MOMENTS, MortalKernel, Watch
from tests.kernel.project import Agent, Project

PATH = "management/schedules"
TABLES = ("cg_ledger", "cg_projects", "cg_records", "cg_spawns", "cg_turns")


@pytest.fixture
async def watch(dsn: str) -> AsyncIterator[Watch]:
    """The test's hands on the database."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        watch = Watch(pool)
        await watch.prepare()
        yield watch


async def instants_of(agent: Agent) -> list[str]:
    """The instants that turns were dispatched for, by their keys."""
    turns = (await agent.get("projection/turns", limit=500))["items"]
    return sorted(turn["cause_id"] for turn in turns)


@pytest.mark.timeout(180)
async def test_a_kernel_killed_in_each_tick_costs_no_instant_and_doubles_none(
    dsn: str, tmp_path: Path, project: Project, watch: Watch
) -> None:
    """Two kernels; one is killed while its tick is held at each table that it writes, before and after."""
    maker = await project.agent("maker", capacity=100)
    body = {"requested_by": maker.json, "target_agent": maker.json, "input": 1, "catch_up": "all"}
    mortal = MortalKernel(project.id, dsn, tmp_path)
    made: Any = (await maker.ask("PUT", f"{PATH}/beat", {**body, "cron": "@every 1s"})).json()
    for table in TABLES:
        for moment in MOMENTS:
            await mortal.start()
            async with watch.holding(table, moment):
                await asyncio.sleep(1.2)  # at least one tick, by either kernel, is in the middle now
                mortal.kill()
    await maker.ask("POST", f"{PATH}/beat:pause", {"requested_by": maker.json})
    found = await instants_of(maker)
    counted = Counter(found)
    assert set(counted.values()) == {1}
    first, last = (datetime.fromisoformat(key.rpartition("beat:")[2]) for key in (found[0], found[-1]))
    assert first == datetime.fromisoformat(made["next_at"])
    expected = [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]
    assert [datetime.fromisoformat(key.rpartition("beat:")[2]) for key in found] == expected
    assert len(found) >= len(TABLES) * len(MOMENTS)
