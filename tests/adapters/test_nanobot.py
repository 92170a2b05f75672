"""NanoBot itself, with a scripted model on loopback, as a handler of a real worker."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import anyio
import nanobot.agent.tools.mcp  # noqa: F401  # takes seconds, which are no part of a test's turn
import pytest

from cgworker import AdapterHandler, Turn, UsageError, Worker, WorkerOptions
from cgworker.adapters.harness import Harness
from cgworker.adapters.nanobot import Bot, NanobotAdapter, _Exchange
from cgworker.adapters.tools import ChildTool
from cgworker.errors import FencingError, KernelUnreachable, LeaseLost
from cgworker.testing import LocalKernel
from tests.adapters.endpoint import After, Endpoint, Hang, Refuse, calls, endpoint, says
from tests.adapters.nanobot_home import anyio_backend, own_folders
from tests.journeys.conftest import closed, in_state, working
from tests.kernels import NewProject

__all__ = ["anyio_backend", "own_folders"]

OPTIONS = WorkerOptions(concurrency=1, renew_seconds=0.2, interrupt_seconds=2, wait_seconds=5)
EXPERT = ChildTool(
    name="ask_expert",
    description="Ask the expert on numbers.",
    agent_id="expert",
    parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
)


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=5) as kernel:
        yield kernel


def bot_at(model: Endpoint, folder: Path, *children: ChildTool) -> AdapterHandler[Any]:
    """A handler whose bot has this model and a workspace of its own."""
    config = folder / "nanobot.json"
    config.write_text(
        json.dumps(
            {
                "agents": {"defaults": {"model": "scripted", "provider": "custom"}},
                "providers": {"custom": {"apiKey": "key-of-the-endpoint", "apiBase": model.base_url}},
            }
        )
    )
    return AdapterHandler(
        NanobotAdapter(config_path=config, workspace=folder / "workspace", children=children)
    )


async def test_a_bot_answers_a_turn(kernel: LocalKernel, tmp_path: Path) -> None:
    """Its text is streamed into records and is the deliverable; its key is in neither."""
    async with await kernel.agent("desk") as desk:
        with endpoint(says("hello", " there")) as model:
            turn = await kernel.dispatch("desk", {"text": "say hello"})
            async with working(Worker(desk, bot_at(model, tmp_path), options=OPTIONS)):
                found = await closed(desk, turn)
        records = [(item.record.record_role, item.payload) async for item in desk.turns.records(turn)]
    assert (found.outcome, found.final_payload) == ("succeeded", {"text": "hello there"})
    assert ("progress", {"index": 0, "text": "hello there"}) in records
    assert ("usage", {"requests": 1, "input_tokens": 0, "output_tokens": 0}) in records
    assert "say hello" in json.dumps(model.requests[0]["messages"])
    assert "key-of-the-endpoint" not in json.dumps(records)


async def test_what_the_turn_is_told_is_the_bots_next_message(kernel: LocalKernel, tmp_path: Path) -> None:
    """What came before it began goes with the first one; later ones keep the turn from being closed."""
    told = threading.Event()
    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        with endpoint(After(told, says("Plan A.")), says("Plan B.")) as model:
            turn = await kernel.dispatch("desk", {"text": "Plan?"})
            await requester.turns.tell(turn, {"text": "be brief"})
            async with working(Worker(desk, bot_at(model, tmp_path), options=OPTIONS)):
                while not model.requests:  # noqa: ASYNC110  # it is asked in a thread
                    await anyio.sleep(0.01)
                await requester.turns.tell(turn, "no, another one")
                told.set()
                found = await closed(desk, turn)
    assert found.final_payload == {"text": "Plan B."}
    assert "be brief" in json.dumps(model.requests[0]["messages"])
    assert "no, another one" in json.dumps(model.requests[1]["messages"][-1])


async def test_what_a_bot_gives_away_comes_back_to_it(kernel: LocalKernel, tmp_path: Path) -> None:
    """A child turn; the parent is suspended meanwhile, and the model is told the result and asked again."""
    script = [calls(("ask_expert", {"n": 7})), says("asked"), says("the expert says 49")]
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        helper = Worker(expert, options=OPTIONS)

        @helper.turn()
        async def square(_: Turn, asked: dict[str, int]) -> dict[str, int]:
            return {"square": asked["n"] ** 2}

        with endpoint(*script) as model:
            turn = await kernel.dispatch("desk", {"text": "what is 7 squared?"})
            async with working(Worker(desk, bot_at(model, tmp_path, EXPERT), options=OPTIONS)):
                await in_state(desk, turn, "suspended")
            async with (  # another worker goes on, as after a restart
                working(Worker(desk, bot_at(model, tmp_path, EXPERT), options=OPTIONS)),
                working(helper),
            ):
                found = await closed(desk, turn)
    assert found.final_payload == {"text": "the expert says 49"}
    assert len(model.requests) == 3
    assert '"square":49' in json.dumps(model.requests[2]["messages"]).replace("\\", "")


async def test_a_bot_whose_model_refuses_fails_its_turn(kernel: LocalKernel, tmp_path: Path) -> None:
    """With a typed report, and without what is secret."""
    async with await kernel.agent("desk") as desk:
        with endpoint(*[Refuse(401, message="no such key: key-of-the-endpoint")] * 5) as model:
            turn = await kernel.dispatch("desk", "hello")
            async with working(Worker(desk, bot_at(model, tmp_path), options=OPTIONS)):
                found = await closed(desk, turn, seconds=60)
    assert (found.outcome, found.final_payload["error"]) == ("failed", "nanobot_failed")
    assert "key-of-the-endpoint" not in json.dumps(found.final_payload)


async def test_a_stop_ends_a_bot_in_the_middle(kernel: LocalKernel, tmp_path: Path) -> None:
    """What it had said is public, and the turn is stopped."""
    async with await kernel.agent("desk") as desk:
        with endpoint(Hang("thinking aloud")) as model:
            turn = await kernel.dispatch("desk", "hello")
            async with working(Worker(desk, bot_at(model, tmp_path), options=OPTIONS)):
                with anyio.fail_after(60):
                    async for item in desk.turns.follow(turn):
                        if item.record.record_role == "progress":
                            break
                await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
                assert (await closed(desk, turn)).outcome == "stopped"


def test_a_missing_config_is_said_before_anything_is_claimed(tmp_path: Path) -> None:
    """The worker asks before it claims."""
    with pytest.raises(UsageError, match="no NanoBot config"):
        NanobotAdapter(config_path=tmp_path / "none.json").check()


@pytest.mark.parametrize("raised", [LeaseLost("gone"), FencingError("fenced"), KernelUnreachable("away")])
async def test_what_the_kernel_says_is_no_failure_of_the_bot(raised: Exception) -> None:
    """It was kept as a `nanobot_failed`, and the turn failed for a lease that another worker had."""

    class Raising(_Exchange):
        async def _run(self, _key: str) -> str:
            raise raised

    sessions, turn = MagicMock(), MagicMock(fingerprint="f")
    made = Bot(None, (), Harness(turn, agent="bot"), MagicMock(failure=None), sessions, "f")
    with pytest.raises(type(raised)):
        await Raising(turn, made, 0, "hello").ask()
