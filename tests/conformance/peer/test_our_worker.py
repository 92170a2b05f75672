"""Our `Worker` at the reference's server: no long poll, no extra keys, no reaper (difference 26)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from attrs import evolve

from cgworker import (
    CommandHandler,
    Outcome,
    Turn,
    Worker,
    WorkerOptions,
    fail,
    retry,
    suspend,
)
from tests.conformance.peer.elsewhere import OPTIONS, Desk
from tests.conformance.peer.site import PROJECT, SHORT_LEASE_SECONDS
from tests.journeys.conftest import history, working


async def test_a_function_answers_with_every_kind_of_outcome(desk: Desk) -> None:
    """Values, failures and suspensions arrive as they were said."""
    worker = Worker(desk.kernel, options=OPTIONS)
    answers: dict[str, object] = {
        "value": {"a": [1, None]}, "text": "hi", "number": 42, "nothing": None,
        "failure": fail({"error": "no"}), "aside": suspend("wait", "n"),
    }  # fmt: skip

    @worker.turn()
    async def handle(_: Turn, word: str) -> Any:
        return answers[word]

    turns = {word: await desk.dispatch(word) for word in answers}
    async with working(worker):
        found = {word: await desk.closed(turns[word]) for word in ("value", "text", "number", "nothing")}
        assert {word: turn.final_payload for word, turn in found.items()} == {
            word: answers[word] for word in found
        }
        failed = await desk.closed(turns["failure"])
        assert (failed.outcome, failed.final_payload) == ("failed", {"error": "no"})
        await desk.state(turns["aside"], "suspended")


async def test_a_lease_is_held_for_longer_than_it_lasts(desk: Desk) -> None:
    """Nobody has to ask for renewal."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> str:
        await anyio.sleep(SHORT_LEASE_SECONDS + 1)
        return "held"

    turn = await desk.dispatch({})
    report = await worker.once()
    assert report is not None
    assert report.settled
    assert (await desk.closed(turn)).final_payload == "held"
    assert (await history(desk.asker, turn)).count("turn.claimed") == 1


async def test_the_agent_is_seen_to_be_there(desk: Desk) -> None:
    """By who asks this server for the agent."""
    assert (await desk.kernel.agents.get(desk.agent)).last_seen_at is None
    worker = Worker(desk.kernel, options=evolve(OPTIONS, presence_seconds=0.1))

    @worker.turn()
    async def handle(_: Turn) -> None: ...

    async with working(worker):
        await desk.closed(await desk.dispatch({}))
        first = (await desk.kernel.agents.get(desk.agent)).last_seen_at
    last = (await desk.kernel.agents.get(desk.agent)).last_seen_at
    assert first is not None
    assert last is not None
    assert last > first


async def test_a_stop_reaches_a_running_function(desk: Desk) -> None:
    """It is asked for, since this server's renewals do not tell."""
    worker = Worker(desk.kernel, options=OPTIONS)
    started = anyio.Event()

    @worker.turn()
    async def handle(_: Turn) -> None:
        started.set()
        await anyio.sleep_forever()

    turn = await desk.dispatch({})
    async with working(worker):
        await started.wait()
        await desk.kernel.turns.stop(turn, requested_by=desk.agent)
        assert (await desk.closed(turn)).outcome == "stopped"


async def test_a_stop_reaches_a_running_command(desk: Desk) -> None:
    """By the stop file."""
    script = (
        "echo '\"up\"' >> $CG_PROGRESS_FILE; while [ ! -e $CG_STOP_FILE ]; do sleep 0.05; done;"
        " cp $CG_STOP_FILE $CG_FINAL_FILE"
    )
    worker = Worker(desk.kernel, CommandHandler(["sh", "-c", script]), options=OPTIONS)
    turn = await desk.dispatch({})
    async with working(worker):
        with anyio.fail_after(60):
            while "turn.progress_appended" not in await history(desk.asker, turn):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        await desk.kernel.turns.stop(turn, requested_by=desk.agent)
        found = await desk.closed(turn)
    assert (found.outcome, found.final_payload["reason"]) == ("stopped", "stop")


async def test_an_abandoned_claim_is_taken_over_and_counted(desk: Desk) -> None:
    """A starting worker has expired claims given back; the attempt is read from the feed."""
    turn = await desk.dispatch({})
    assert (await desk.kernel.claims.claim(desk.agent)).claimed is not None
    await anyio.sleep(SHORT_LEASE_SECONDS + 0.2)
    worker, attempts = Worker(desk.kernel, options=OPTIONS), []

    @worker.turn()
    async def handle(turn: Turn) -> int:
        attempts.append(turn.attempt)
        return turn.attempt

    async with working(worker):
        assert (await desk.closed(turn)).final_payload == 2
    assert attempts == [2]


async def test_a_claim_that_expires_beside_an_idle_worker_is_taken_over(desk: Desk) -> None:
    """Somebody else's claim for the same agent ends while this worker waits."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> int:
        return turn.attempt

    turn = await desk.dispatch({})
    assert (await desk.kernel.claims.claim(desk.agent)).claimed is not None
    async with working(worker):
        found = await desk.state(turn, "closed", seconds=40)
    assert found.final_payload == 2


async def test_a_turn_that_was_attempted_too_often_is_failed(desk: Desk) -> None:
    """The count comes from the feed here, too."""
    options = WorkerOptions(poll_seconds=0.2, max_attempts=1)
    worker = Worker(desk.kernel, options=options)

    @worker.turn()
    async def handle(_: Turn) -> None:
        raise AssertionError("it must not run")

    turn = await desk.dispatch({})
    assert (await desk.kernel.claims.claim(desk.agent)).claimed is not None
    await anyio.sleep(SHORT_LEASE_SECONDS + 0.2)
    async with working(worker):
        found = await desk.closed(turn)
    assert (found.outcome, found.final_payload["error"]) == ("failed", "attempts_exhausted")


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_finish_closes_the_turn_once(desk: Desk, fault: str) -> None:
    """This server refuses a repeat; reading the turn back tells that the first one arrived."""
    worker, runs = Worker(desk.kernel, options=OPTIONS), 0

    @worker.turn()
    async def handle(_: Turn) -> dict[str, int]:
        nonlocal runs
        runs += 1
        return {"n": runs}

    turn = await desk.dispatch({})
    getattr(desk.proxy.faults, fault)("finish")
    report = await worker.once()
    assert report is not None
    assert report.settled
    assert ((await desk.closed(turn)).final_payload, runs) == ({"n": 1}, 1)
    assert (await history(desk.asker, turn)).count("turn.finished") == 1


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_append_leaves_one_record(desk: Desk, fault: str) -> None:
    """Found among the turn's records, although an equal one was there before."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> int:
        await turn.record({"step": 1})
        getattr(desk.proxy.faults, fault)("append")
        await turn.record({"step": 1})
        return len(await turn.records("progress"))

    turn = await desk.dispatch({})
    await worker.once()
    assert (await desk.closed(turn)).final_payload == 2


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_suspend_suspends_once(desk: Desk, fault: str) -> None:
    """Told by the turn's state."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> Outcome:
        return suspend("wait")

    turn = await desk.dispatch({})
    getattr(desk.proxy.faults, fault)("suspend")
    report = await worker.once()
    assert report is not None
    assert report.settled
    await desk.state(turn, "suspended")
    assert (await history(desk.asker, turn)).count("turn.suspended") == 1


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_dispatch_gives_one_child(desk: Desk, fault: str) -> None:
    """Its key makes the repeat the same dispatch."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        getattr(desk.proxy.faults, fault)("dispatch")
        return (await turn.dispatch(desk.helper.agent_id, {"n": 1}, key="part")).turn_id

    turn = await desk.dispatch({})
    await worker.once()
    lineage = await desk.asker.projections.lineage(PROJECT, turn.turn_id)
    assert [child.turn_id for child in lineage.direct_children] == [(await desk.closed(turn)).final_payload]


async def test_a_lost_claim_comes_back_when_its_lease_ends(desk: Desk) -> None:
    """This server gives a repeated claim nothing."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> int:
        return turn.attempt

    turn = await desk.dispatch({})
    desk.proxy.faults.drop_response("claim")
    async with working(worker):
        assert (await desk.state(turn, "closed", seconds=40)).final_payload == 2


async def test_a_retry_is_tried_again(desk: Desk) -> None:
    """The worker resumes it itself when its time has come."""
    worker, runs = Worker(desk.kernel, options=OPTIONS), 0

    @worker.turn()
    async def handle(_: Turn) -> Any:
        nonlocal runs
        runs += 1
        return retry(after_seconds=0.3) if runs == 1 else runs

    turn = await desk.dispatch({})
    async with working(worker):
        assert (await desk.closed(turn)).final_payload == 2


async def test_a_drained_worker_hands_back_and_the_next_one_goes_on(desk: Desk) -> None:
    """Suspended and resumed at once, so that it is queued when the first worker has ended."""
    first = Worker(desk.kernel, options=WorkerOptions(poll_seconds=0.2, interrupt_seconds=0.5))
    started = anyio.Event()

    @first.turn()
    async def hold(_: Turn) -> None:
        started.set()
        await anyio.sleep_forever()

    turn = await desk.dispatch({})
    async with working(first):
        await started.wait()
        first.drain(force=True)
    assert (await desk.asker.turns.get(turn)).state == "queued"
    second = Worker(desk.kernel, options=OPTIONS)

    @second.turn()
    async def handle(turn: Turn) -> int:
        return turn.attempt

    assert await second.once() is not None
    assert (await desk.closed(turn)).final_payload == 1


async def test_a_turn_left_suspended_by_a_killed_worker_is_resumed(desk: Desk) -> None:
    """Killed between its suspend and its resume: any live worker of the agent mends that."""
    turn = await desk.dispatch({})
    claimed = (await desk.kernel.claims.claim(desk.agent)).claimed
    assert claimed is not None
    await desk.kernel.turns.suspend(claimed.claim, "worker_shutdown")
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> str:
        return "done"

    async with working(worker):
        assert (await desk.closed(turn)).final_payload == "done"
