"""A worker killed with SIGKILL at each moment of a turn: what is true afterwards, and what was run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, TurnRef, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from cgworker.worker.outbox.outbox import Outbox
from tests.journeys.conftest import closed, history, in_state, working

PROGRAM = """
import os, sys, anyio
from pathlib import Path
from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run, suspend
url, project, token, runs = sys.argv[1:]
kernel = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
worker = Worker(kernel, options=WorkerOptions(wait_seconds=5))
@worker.turn()
async def handle(turn: Turn, input: str):
    Path(runs).open("a").write("killed\\n")
    if input == "work":
        await anyio.sleep_forever()
    if input == "listen":
        async for message in turn.messages():
            Path(runs).open("a").write(message.content + "\\n")
    if input == "record":
        await turn.record({"step": 1})
    return suspend("waiting") if input == "suspend" else {"by": "the killed one"}
run(worker)
"""


@pytest.fixture
def anyio_backend() -> str:
    """The killed worker is the same on both; here runs the one that follows it."""
    return "asyncio"


class Story:
    """A turn, the worker process that has it, and where handlers say that they ran."""

    def __init__(self, kernel: LocalKernel, desk: KernelClient, runs: Path) -> None:
        self.kernel = kernel
        self.desk = desk
        self.runs = runs
        self.turn: TurnRef
        self.process: anyio.abc.Process

    async def until(self, seen: Callable[[], Awaitable[bool]]) -> None:
        with anyio.fail_after(60):
            while not await seen():  # noqa: ASYNC110  # in another process
                await anyio.sleep(0.02)

    async def until_it_ran(self) -> None:
        async def ran() -> bool:
            return "killed" in self.who_ran

        await self.until(ran)

    async def until_state(self, state: str) -> None:
        await in_state(self.desk, self.turn, state)

    async def until_asked(self, verb: str, times: int) -> None:
        async def asked() -> bool:
            return self.kernel.faults.seen[verb] >= times

        await self.until(asked)

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self.kernel.faults.clear()

    async def follow(self) -> Any:
        """The payload the turn is closed with when another worker, with the same outbox, is there."""
        worker = Worker(self.desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(turn: Turn) -> dict[str, Any]:
            with self.runs.open("a") as runs:
                runs.write("next\n")
            return {"by": "the next one", "attempt": turn.attempt}

        async with working(worker):
            return (await closed(self.desk, self.turn)).final_payload

    @property
    def who_ran(self) -> list[str]:
        return self.runs.read_text().split() if self.runs.exists() else []


@pytest.fixture
def story(kernel: LocalKernel, tmp_path: Path) -> Callable[[str], Any]:
    """Begins a story: dispatches this input to a worker in a process of its own."""

    @asynccontextmanager
    async def begin(input: str) -> AsyncIterator[Story]:
        async with await kernel.agent("desk") as desk:
            story = Story(kernel, desk, tmp_path / "runs")
            story.turn = await kernel.dispatch("desk", input)
            about = (kernel.base_url, kernel.project_id, *desk.secrets, str(story.runs))
            story.process = await anyio.open_process(
                [sys.executable, "-c", PROGRAM, *about],
                env={**os.environ, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]},
                stdout=subprocess.DEVNULL,
                stderr=None,
            )
            try:
                yield story
            finally:
                if story.process.returncode is None:
                    story.process.kill()
                await story.process.aclose()

    return begin


NEXT_ONE = {"by": "the next one", "attempt": 2}


async def test_killed_before_the_claims_answer_it_is_run_by_the_next(story: Any, kernel: LocalKernel) -> None:
    """Nobody ran it, but a claim of it ended without a result: that counts as an attempt."""
    kernel.faults.drop_response("claim", times=1000)
    async with story("answer") as told:
        await told.until_state("running")
        await told.kill()
        assert (await told.follow(), told.who_ran) == (NEXT_ONE, ["next"])


async def test_killed_while_it_runs_it_is_run_again(story: Any) -> None:
    """There was no result to keep."""
    async with story("work") as told:
        await told.until_it_ran()
        await told.kill()
        assert (await told.follow(), told.who_ran) == (NEXT_ONE, ["killed", "next"])


async def test_killed_while_it_listens_the_next_one_reads_every_message(
    story: Any, kernel: LocalKernel
) -> None:
    """Those that the dead worker had read, and one that came while no worker had the turn."""
    read: list[str] = []

    async def listen(turn: Turn) -> None:
        async for message in turn.messages():
            read.append(message.content)
            if message.content == "end":
                return

    async with story("listen") as told, await kernel.agent("requester") as requester:

        async def has_read() -> bool:
            return "first" in told.who_ran

        await told.until_it_ran()
        await requester.turns.tell(told.turn, "first")
        await told.until(has_read)
        await told.kill()
        await requester.turns.tell(told.turn, "between")
        async with working(Worker(told.desk, handler=listen, options=WorkerOptions(wait_seconds=5))):
            await in_state(told.desk, told.turn, "running")
            await requester.turns.tell(told.turn, "end")
            assert (await closed(told.desk, told.turn)).outcome == "succeeded"
    assert read == ["first", "between", "end"]


async def test_killed_during_an_append_it_is_run_again_and_the_record_stays(
    story: Any, kernel: LocalKernel
) -> None:
    """A record is true once it is there; the next attempt finds it among the turn's records."""
    kernel.faults.drop_response("append", times=1000)
    kernel.faults.answer("context", 503, times=1000)  # where it would find its record
    async with story("record") as told:
        await told.until_asked("context", 1)  # it looks whether the append was carried out
        await told.kill()
        assert (await told.follow(), told.who_ran) == (NEXT_ONE, ["killed", "next"])
        records = [item async for item in told.desk.turns.records(told.turn)]
        assert [item.payload for item in records[1:-1]] == [{"step": 1}]


async def test_killed_before_the_finish_arrives_its_result_is_delivered_and_not_computed_again(
    story: Any, kernel: LocalKernel
) -> None:
    """It is in the outbox before the call is repeated."""
    kernel.faults.answer("finish", 503, times=1000)
    async with story("answer") as told:
        await told.until_asked("finish", 2)
        await told.kill()
        assert (await told.follow(), told.who_ran) == ({"by": "the killed one"}, ["killed"])


async def test_killed_before_the_answer_to_its_finish_the_turn_is_closed_once(
    story: Any, kernel: LocalKernel
) -> None:
    """What the kernel has carried out is true, whoever hears of it."""
    kernel.faults.drop_response("finish", times=1000)
    async with story("answer") as told:
        await told.until_state("closed")
        await told.kill()
        assert (await told.follow(), told.who_ran) == ({"by": "the killed one"}, ["killed"])
        assert (await history(told.desk, told.turn)).count("turn.finished") == 1


async def test_killed_before_the_answer_to_its_suspend_the_turn_stays_suspended(
    story: Any, kernel: LocalKernel
) -> None:
    """Until somebody resumes it, who is not the worker: the reason is the handler's own."""
    kernel.faults.drop_response("suspend", times=1000)
    async with story("suspend") as told:
        await told.until_state("suspended")
        await told.kill()
        assert told.who_ran == ["killed"]
        await told.desk.turns.resume(told.turn, requested_by=told.desk.agent)
        assert await told.follow() == {"by": "the next one", "attempt": 1}


async def test_killed_in_its_drain_what_it_held_is_run_again(story: Any) -> None:
    """As without a drain: the hand-back did not come about."""
    async with story("work") as told:
        await told.until_it_ran()
        told.process.send_signal(signal.SIGTERM)
        await told.kill()
        assert (await told.follow(), told.who_ran) == (NEXT_ONE, ["killed", "next"])


# ---------------------------------------------------------------- many results in one file

MANY = """
import sys, anyio
from pathlib import Path
from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run
url, project, token, runs, who = sys.argv[1:]
kernel = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
worker = Worker(kernel, options=WorkerOptions(wait_seconds=5))
ran, all_ran = 0, anyio.Event()
@worker.turn()
async def handle(turn: Turn):
    global ran
    with Path(runs).open("a") as file:
        file.write(who + "\\n")
    ran += 1
    if ran == 8:
        all_ran.set()
    if who == "killed":
        await all_ran.wait()
    return {"by": who}
run(worker)
"""


async def test_killed_with_many_results_in_one_file_two_others_deliver_them_all(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Two processes read the file, each delivers what it claims, and no handler runs again."""
    runs = tmp_path / "runs"
    async with await kernel.agent("desk", capacity=8) as desk:
        assert desk.agent is not None
        outbox = Outbox(WorkerOptions().outbox_folder, max_bytes=2**20)
        kernel.faults.answer("finish", 503, times=10_000)
        turns = [await kernel.dispatch("desk", {}) for _ in range(8)]
        async with a_process_of(kernel, desk, runs, "killed") as process:
            with anyio.fail_after(60):
                while len(outbox.waiting(desk.base_url, desk.agent)) < 8:  # noqa: ASYNC110  # in another process
                    await anyio.sleep(0.02)
            process.kill()
            await process.wait()
        assert len(list(outbox_files())) < 8
        kernel.faults.clear()
        async with (
            a_process_of(kernel, desk, runs, "next"),
            a_process_of(kernel, desk, runs, "next but one"),
        ):
            for turn in turns:
                assert (await closed(desk, turn)).final_payload == {"by": "killed"}
                assert (await history(desk, turn)).count("turn.finished") == 1
    assert runs.read_text().splitlines() == ["killed"] * 8


def outbox_files() -> list[Path]:
    return [path for path in WorkerOptions().outbox_folder.rglob("*") if path.is_file()]


@asynccontextmanager
async def a_process_of(
    kernel: LocalKernel, desk: KernelClient, runs: Path, who: str
) -> AsyncIterator[anyio.abc.Process]:
    """A worker in a process of its own, killed at the end of the block."""
    about = (kernel.base_url, kernel.project_id, *desk.secrets, str(runs), who)
    async with await anyio.open_process(
        [sys.executable, "-c", MANY, *about], stdout=subprocess.DEVNULL, stderr=None
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
