"""Agents of other frameworks whose worker is killed at each moment: another one, elsewhere, goes on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, TurnRef, answer_question
from cgworker.testing import LocalKernel
from tests.adapters.killed import STAGES, Script, worker_for
from tests.journeys.conftest import in_state, working
from tests.journeys.killing import kernel, run_until_killed
from tests.object_stores import write_key

__all__ = ["kernel"]

AGENTS = ["pydantic_agent", "openai_agent"]
READY_CALLS = ["model1", "look a", "look b", "model2"]
CALLS = ["model1", "look a", "look b", "model2", "pay", "model3"]


@pytest.fixture
def anyio_backend() -> str:
    """These frameworks run on asyncio."""
    return "asyncio"


async def approve(desk: KernelClient, turn: TurnRef, value: Any) -> None:
    """Answer the turn's question once it is asked."""
    await in_state(desk, turn, "suspended")
    await answer_question(desk, turn, value)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("agent", AGENTS)
async def test_what_was_answered_before_the_kill_is_not_asked_again(
    agent: str, call: str, stage: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Only the call that was killed is made again: it was not answered, or its answer was not kept yet."""
    write_key(tmp_path / "key")
    async with await kernel.agent("desk") as desk, anyio.create_task_group() as tasks:
        turn = await kernel.dispatch("desk", {"text": "buy it"})
        tasks.start_soon(approve, desk, turn, True)
        with anyio.fail_after(60):
            await run_until_killed(kernel, desk, agent, tmp_path, f"{call} {stage}", warm=AGENTS)
        await kernel.faults.steal_lease(turn)
        async with working(worker_for(desk, agent, tmp_path)):
            found = await in_state(desk, turn, "closed")
        records = [item async for item in desk.turns.records(turn)]
    assert found.final_payload == {"text": "done: a is 7; b is 7; 7 paid; "}
    again = {f"{call} before"} | {f"{call} {each}" for each in STAGES[: STAGES.index(stage) + 1]}
    expected = {f"{each} {point}": 1 for each in CALLS for point in STAGES} | dict.fromkeys(again, 2)
    assert Script(tmp_path).counts == expected
    roles = [item.record.record_role for item in records]
    assert (roles.count("question"), roles.count("answer"), roles.count("usage")) == (1, 1, 1)
    assert [item.payload["requests"] for item in records if item.record.record_role == "usage"] == [3]
    assert 1 <= roles.count("progress") <= 2  # the text of the last answer; of two where it was cut off
    assert "a is 7" not in str([item.payload for item in records if item.record.record_role == "step"])
    assert not list((tmp_path / "objects").rglob("*/*"))


@pytest.mark.parametrize(
    ("agent", "at"),
    [
        ("chat_agent", "look b answered"),
        ("chat_agent", "model2 asked"),
        ("graph_agent", "look b answered"),
        ("graph_agent", "model2 asked"),
        ("nanobot_agent", "model2 asked"),
    ],
)
async def test_what_a_ready_adapter_has_done_is_not_done_again(
    agent: str, at: str, kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished calls of tools, nodes and models are kept, and nothing private is public."""
    import_module(f"tests.adapters.{agent}")  # seconds, which are no part of the turn
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write_key(tmp_path / "key")
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {"text": "look"})
        with anyio.fail_after(60):
            await run_until_killed(kernel, desk, agent, tmp_path, at)
        await kernel.faults.steal_lease(turn)
        async with working(worker_for(desk, agent, tmp_path)):
            found = await in_state(desk, turn, "closed", seconds=60)
        records = [item async for item in desk.turns.records(turn)]
    assert found.final_payload["text"].strip() == "done: a is 7; b is 7;"
    call, stage = at.rsplit(" ", 1)
    again = {f"{call} {each}" for each in STAGES[: STAGES.index(stage) + 1]} | {f"{call} before"}
    expected = {f"{each} {point}": 1 for each in READY_CALLS for point in STAGES}
    assert Script(tmp_path).counts == expected | dict.fromkeys(again, 2)
    steps = [item.payload for item in records if item.record.record_role == "step"]
    assert all(set(step) == {"key", "private"} for step in steps)
    assert not list((tmp_path / "objects").rglob("*/*"))
