"""Messages: what a turn is told reaches its handler, in order and never lost (difference 32)."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from cgworker import (
    CommandHandler,
    KernelClient,
    KernelTrouble,
    Message,
    Turn,
    TurnRef,
    Worker,
    WorkerOptions,
    retry,
)
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, in_state, working

OPTIONS = WorkerOptions(concurrency=1, renew_seconds=0.2, wait_seconds=5, interrupt_seconds=1)


async def contents(turn: Turn, *, until: Any) -> list[Any]:
    """Read messages up to one with this content."""
    found = []
    async for message in turn.messages():
        found.append(message.content)
        if message.content == until:
            break
    return found


async def tell(kernel: LocalKernel, turn: TurnRef, *said: Any) -> None:
    """Tell a turn something, as its requester."""
    async with await kernel.agent("requester") as requester:
        for content in said:
            await requester.turns.tell(turn, content)


async def recorded(kernel: KernelClient, turn: TurnRef, payload: Any) -> None:
    """Wait for a record of the turn."""
    async with aclosing(kernel.turns.follow(turn)) as items:
        async for item in items:
            if item.payload == payload:
                return


async def test_a_handler_reads_what_it_was_told_before_it_began_and_while_it_runs(
    kernel: LocalKernel,
) -> None:
    """In order; the message names its sender, its key and its record."""
    async with await kernel.agent("desk") as desk:
        worker, running = Worker(desk, options=OPTIONS), anyio.Event()
        read: list[Message] = []

        @worker.turn()
        async def listen(turn: Turn) -> int:
            async for message in turn.messages():
                read.append(message)
                running.set()
                if message.content == "end":
                    break
            return len(read)

        turn = await kernel.dispatch("desk", {})
        async with await kernel.agent("requester") as requester:
            await requester.turns.tell(turn, {"text": "use the other file"}, key="m1")
            async with working(worker):
                await running.wait()
                await desk.turns.tell(turn, "aside")
                await requester.turns.tell(turn, "end")
                assert (await closed(desk, turn)).final_payload == 3
    assert [message.content for message in read] == [{"text": "use the other file"}, "aside", "end"]
    assert [message.sender for message in read] == ["requester", "desk", "requester"]
    assert [message.key for message in read] == ["m1", None, None]
    assert [message.turn_seq for message in read] == [2, 3, 4]


async def test_each_run_of_the_handler_reads_from_the_first_message_on(kernel: LocalKernel) -> None:
    """A message while the turn is suspended is there at re-entry; each one comes once in a run."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        runs: list[list[Any]] = []

        @worker.turn()
        async def listen(turn: Turn) -> Any:
            runs.append(await contents(turn, until=("first", "while suspended")[len(runs)]))
            return retry() if len(runs) == 1 else await turn.ask(bool, "Go on?", key="go")

        turn = await kernel.dispatch("desk", {})
        await tell(kernel, turn, "first")
        async with working(worker):
            with anyio.fail_after(60):
                while not runs:  # noqa: ASYNC110  # the handler tells nobody
                    await anyio.sleep(0.02)
            await tell(kernel, turn, "while suspended")
            with anyio.fail_after(60):
                while len(runs) < 2:  # noqa: ASYNC110  # the handler tells nobody
                    await anyio.sleep(0.02)
            await in_state(desk, turn, "suspended")
        assert runs == [["first"], ["first", "while suspended"]]


async def test_a_message_during_a_lost_lease_is_read_by_the_next_attempt(kernel: LocalKernel) -> None:
    """The worker was cut off; what came meanwhile follows what came before."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        attempts: list[list[Any]] = []

        @worker.turn()
        async def listen(turn: Turn) -> list[Any]:
            read: list[Any] = []
            attempts.append(read)
            async for message in turn.messages():
                read.append(message.content)
                if message.content == "end":
                    break
            return read

        turn = await kernel.dispatch("desk", {})
        await tell(kernel, turn, 1)
        async with working(worker):
            with anyio.fail_after(60):
                while attempts != [[1]]:  # noqa: ASYNC110  # the handler tells nobody
                    await anyio.sleep(0.02)
            await kernel.faults.steal_lease(turn)
            await tell(kernel, turn, 2, "end")
            assert (await closed(desk, turn)).final_payload == [1, 2, "end"]


async def test_two_readers_share_the_messages_of_a_run(kernel: LocalKernel) -> None:
    """Each message goes to one of them; `wait=False` ends with the last so far."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def listen(turn: Turn) -> Any:
            at_once = [message.content async for message in turn.messages(wait=False)]
            again = [message.content async for message in turn.messages(wait=False)]
            await turn.record("ready")
            later = await contents(turn, until="c")
            return [at_once, again, later]

        turn = await kernel.dispatch("desk", {})
        await tell(kernel, turn, "a", "b")
        async with working(worker):
            await recorded(desk, turn, "ready")
            await tell(kernel, turn, "c")
            assert (await closed(desk, turn)).final_payload == [["a", "b"], [], ["c"]]


async def test_a_handlers_own_records_are_no_messages(kernel: LocalKernel) -> None:
    """Also of that role: only what the kernel has added names a sender."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def talk(turn: Turn) -> Any:
            await turn.record("mine", "message")
            await turn.record({"message": "mine"}, "message")
            return [message.content async for message in turn.messages(wait=False)]

        turn = await kernel.dispatch("desk", {})
        await tell(kernel, turn, "theirs")
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == ["theirs"]


async def test_a_stop_ends_a_handler_that_waits_for_messages(kernel: LocalKernel) -> None:
    """Nothing else has to happen."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def listen(turn: Turn) -> None:
            await turn.record("ready")
            async for _ in turn.messages():
                pass

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await recorded(desk, turn, "ready")
            assert desk.agent is not None
            await desk.turns.stop(turn, requested_by=desk.agent)
            assert (await closed(desk, turn)).outcome == "stopped"


READS_TO_THE_END = """
import json, os, time
lines = []
with open(os.environ["CG_MESSAGES_FILE"]) as file:
    print("reading", flush=True)
    while not lines or lines[-1]["message"] != "end":
        if line := file.readline():
            lines.append(json.loads(line))
        else:
            time.sleep(0.02)
json.dump(lines, open(os.environ["CG_FINAL_FILE"], "w"))
"""


async def test_a_command_reads_its_messages_from_a_file_that_grows(kernel: LocalKernel) -> None:
    """JSON lines: those so far when it starts, later ones as they come."""
    async with await kernel.agent("desk") as desk:
        begun = anyio.Event()
        command = CommandHandler([sys.executable, "-c", READS_TO_THE_END], on_line=lambda _: begun.set())
        worker = Worker(desk, handler=command, options=OPTIONS)
        turn = await kernel.dispatch("desk", {})
        await tell(kernel, turn, "before", {"n": 1})
        async with working(worker):
            await begun.wait()
            await tell(kernel, turn, "under way", "end")
            said = (await closed(desk, turn)).final_payload
    assert [each["message"] for each in said] == ["before", {"n": 1}, "under way", "end"]
    assert said[0] == {"from": "requester", "message": "before", "key": None}


async def test_the_messages_file_is_there_without_a_message(kernel: LocalKernel) -> None:
    """Empty, so that a command need not ask whether it exists."""
    async with await kernel.agent("desk") as desk:
        command = CommandHandler(["sh", "-c", 'wc -c < "$CG_MESSAGES_FILE" > "$CG_FINAL_FILE"'])
        turn = await kernel.dispatch("desk", {})
        async with working(Worker(desk, handler=command, options=OPTIONS)):
            assert (await closed(desk, turn)).final_payload == 0


async def test_a_message_told_twice_under_a_key_is_read_once(kernel: LocalKernel) -> None:
    """As after an answer that was lost."""

    async def read_all(turn: Turn) -> Any:
        return [message.content async for message in turn.messages(wait=False)]

    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        turn = await kernel.dispatch("desk", {})
        for _ in range(2):
            await _tell_with_key(requester, turn)
        async with working(Worker(desk, handler=read_all, options=OPTIONS)):
            assert (await closed(desk, turn)).final_payload == ["once"]


async def _tell_with_key(requester: KernelClient, turn: TurnRef) -> None:
    await requester.turns.tell(turn, "once", key="k")


async def test_many_handlers_that_wait_for_messages_keep_no_other_call_waiting(kernel: LocalKernel) -> None:
    """Their long polls are not among the hundred requests that a client has under way at once."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})

        async def wait() -> None:
            await desk.turns.wait_for_records(turn, after_turn_seq=1, wait_seconds=30)

        async with anyio.create_task_group() as waiting:
            for _ in range(101):
                waiting.start_soon(wait)
            await anyio.sleep(0.5)
            with anyio.fail_after(60):
                await desk.turns.get(turn)
            await tell(kernel, turn, "end")


async def test_a_message_whose_answer_was_lost_is_told_again_by_its_key(kernel: LocalKernel) -> None:
    """And read once."""

    async def read_all(turn: Turn) -> Any:
        return [message.content async for message in turn.messages(wait=False)]

    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        turn = await kernel.dispatch("desk", {})
        kernel.faults.drop_response("tell")
        with pytest.raises(KernelTrouble):
            await _tell_with_key(requester, turn)
        await _tell_with_key(requester, turn)
        async with working(Worker(desk, handler=read_all, options=OPTIONS)):
            assert (await closed(desk, turn)).final_payload == ["once"]
