"""A worker is killed while an agent of another process works for it, by ACP or by A2A."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from a2a.types import TaskState

from cgworker import answer_question
from cgworker.testing import LocalKernel
from tests.adapters.a2a_agent import COMPLETED, Delivers, Says, Stands, agent
from tests.adapters.killed import STAGES, Script, worker_for
from tests.journeys.conftest import in_state, working
from tests.journeys.killing import kernel, run_until_killed
from tests.object_stores import write_key

__all__ = ["kernel"]

PEERS = ["coding_agent", "forwarding_agent"]
ASKS = Stands(TaskState.TASK_STATE_INPUT_REQUIRED, "Which city?")


@pytest.fixture
def anyio_backend() -> str:
    """The protocol of coding agents has a package for asyncio alone."""
    return "asyncio"


@pytest.mark.parametrize("at", ["look b before", "look b asked", "look b answered"])
async def test_a_coding_agent_is_told_which_of_its_calls_have_ended(
    at: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Its process died, and it has no session here: only the call that was cut off is repeated."""
    write_key(tmp_path / "key")
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {"text": "look"})
        with anyio.fail_after(60):
            await run_until_killed(kernel, desk, "coding_agent", tmp_path, at, warm=PEERS)
        await kernel.faults.steal_lease(turn)
        async with working(worker_for(desk, "coding_agent", tmp_path)):
            found = await in_state(desk, turn, "closed", seconds=60)
        records = [item async for item in desk.turns.records(turn)]
    assert found.final_payload == {"text": "done: a is 7; b is 7;"}
    call, stage = at.rsplit(" ", 1)
    cut_off = STAGES[: STAGES.index(stage) + 1] if stage != "answered" else ()
    expected = {f"look {what} {each}": 1 for what in "ab" for each in STAGES}
    assert Script(tmp_path).counts == expected | dict.fromkeys([f"{call} {each}" for each in cut_off], 2)
    public = [item.payload for item in records if item.record.record_role in ("step", "tool_call")]
    assert "is 7" not in str(public)
    assert not list((tmp_path / "objects").rglob("*/*"))


@pytest.mark.parametrize(
    ("method", "after_chunks", "is_second"),
    [
        ("SendStreamingMessage", -1, False),
        ("SendStreamingMessage", 0, False),
        ("SendStreamingMessage", 3, False),
        ("GetTask", -1, False),
        ("SendStreamingMessage", -1, True),
        ("SendStreamingMessage", 1, True),
        ("GetTask", -1, True),
    ],
)
async def test_a_remote_agent_hears_each_message_once_wherever_the_worker_is_killed(
    method: str, after_chunks: int, is_second: bool, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Before the agent has heard it, while it works, and when it has asked or is done."""
    write_key(tmp_path / "key")
    (tmp_path / "send again").touch()
    with agent([Says("Hm."), ASKS], [Says("Ah."), Delivers("Rain."), COMPLETED]) as remote:
        (tmp_path / "url").write_text(remote.url)
        remote.at_cut = lambda: os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", {"text": "Weather?"})
            if is_second:
                async with working(worker_for(desk, "forwarding_agent", tmp_path)):
                    await in_state(desk, turn, "suspended")
                await answer_question(desk, turn, "Bern")
            remote.cut(method, after_chunks)
            with anyio.fail_after(60):
                await run_until_killed(kernel, desk, "forwarding_agent", tmp_path, warm=PEERS)
            await kernel.faults.steal_lease(turn)
            async with working(worker_for(desk, "forwarding_agent", tmp_path)):
                if not is_second:
                    await in_state(desk, turn, "suspended")
                    await answer_question(desk, turn, "Bern")
                found = await in_state(desk, turn, "closed", seconds=60)
    assert (found.outcome, found.final_payload) == ("succeeded", "Rain.")
    assert [said for _, said in remote.told] == ["Weather?", "Bern"]


async def test_what_may_have_arrived_is_not_sent_again_to_an_agent_that_cannot_tell(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Unless `send_again=` says that the agent knows repeats by their id."""
    write_key(tmp_path / "key")
    with agent([Delivers("Rain."), COMPLETED]) as remote:
        (tmp_path / "url").write_text(remote.url)
        remote.at_cut = lambda: os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        remote.cut("SendStreamingMessage", -1)
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", {"text": "Weather?"})
            with anyio.fail_after(60):
                await run_until_killed(kernel, desk, "forwarding_agent", tmp_path, warm=PEERS)
            await kernel.faults.steal_lease(turn)
            async with working(worker_for(desk, "forwarding_agent", tmp_path)):
                found = await in_state(desk, turn, "closed", seconds=60)
    assert found.final_payload == {"error": "a2a_unknown_whether_sent"}
    assert remote.told == []
