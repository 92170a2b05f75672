"""A turn that is due, and the claim that waits for it: made ahead, and answered when the turn is due."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from cgworker.kernel import timers
from cgworker.kernel.http.held import HeldResponse
from cgworker.kernel.store.claims import claim as claims
from cgworker.kernel.store.claims.claim import MAX_AHEAD_SECONDS, Claimed
from cgworker.kernel.store.claims.due_claim import LeadTime, claim_due_turn
from cgworker.kernel.store.claims.hand_over import WaitingClaim
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.due import WokenTurn, wake_turns
from cgworker.kernel.store.postgres.database import Database
from cgworker.lifecycle import TurnState
from cgworker.testing.kernel_clock import move_clock
from cgworker.wire.claims import ClaimNext
from tests.kernel.parked import WAIT, Waiter, waiting
from tests.kernel.project import Agent, Project

DELAY_SECONDS = 1.0
REPRESENTED = {"Prefer": "wait=20, return=representation"}


async def make_due(project: Project, turn_ids: list[str]) -> None:
    """Let turns be due now that the timer does not know of."""
    numbers = [int(turn_id.removeprefix("T-")) for turn_id in turn_ids]
    statement = "update cg_turns set due_at = now() where project_id = $1 and turn_number = any ($2)"
    await project.kernel.database.execute(statement, project.id, numbers)


async def test_a_turn_that_is_due_is_given_to_a_waiting_claim_in_one_statement(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left for the statement that makes due turns ready."""
    woken: list[WokenTurn] = []

    async def waking(database: Database, max_count: int) -> tuple[list[WokenTurn], bool]:
        turns, has_more = await wake_turns(database, max_count)
        woken.extend(turns)
        return turns, has_more

    monkeypatch.setattr(timers, "wake_turns", waking)
    worker = await project.agent("worker", capacity=9)
    waiter = await waiting(worker)
    turn_id = await worker.dispatch(worker, delay_seconds=0.3, serial_key="a")
    assert (claim := await waiter.claim())["turn_id"] == turn_id
    assert woken == []
    turn = await worker.get(f"turns/{turn_id}")
    assert (turn["state"], turn["serial_key"]) == ("running", "a")
    assert (await worker.finish(claim)).status_code == 200


@pytest.fixture
def lead(project: Project, monkeypatch: pytest.MonkeyPatch) -> LeadTime:
    """How long ahead the kernel's timer makes claims: as long as a test wants, and no real commit takes."""
    lead = LeadTime(prepare_seconds=0.0)
    monkeypatch.setattr(project.kernel.timers, "_lead", lead)
    monkeypatch.setattr(claims, "MAX_AHEAD_SECONDS", DELAY_SECONDS)
    return lead


async def committed(worker: Agent, lead: LeadTime, headers: dict[str, str] = WAIT) -> tuple[Waiter, str]:
    """A claim that waits, and has a turn that is due later; returns both."""
    lead.commit_seconds = DELAY_SECONDS
    waiter = await waiting(worker, headers)
    turn_id = await worker.dispatch(worker, delay_seconds=DELAY_SECONDS)
    async with asyncio.timeout(9):
        while (await worker.get(f"turns/{turn_id}"))["state"] != TurnState.RUNNING:
            await asyncio.sleep(0.05)  # the dispatch has woken the claim, which waits again before long
            worker.project.kernel.timers.expect_anew()
    assert not waiter.is_answered
    return waiter, turn_id


async def due_at(worker: Agent, turn_id: str) -> datetime:
    """The instant at which the turn is due."""
    return datetime.fromisoformat((await worker.get(f"turns/{turn_id}"))["not_before"])


async def test_a_claim_that_is_made_ahead_is_answered_when_its_turn_is_due(
    project: Project, lead: LeadTime
) -> None:
    """Not earlier; and what it writes is of that instant: its event, its lease, the time that it tells."""
    worker = await project.agent("worker")
    waiter, turn_id = await committed(worker, lead, REPRESENTED)
    claim, answered_at = await waiter.claim(), time.time()
    due = await due_at(worker, turn_id)
    assert claim["turn_id"] == turn_id
    assert answered_at >= due.timestamp()
    feed = await worker.get(f"turns/{turn_id}/feed", limit=500)
    [claimed] = [event for event in feed["items"] if event["event_type"] == "turn.claimed"]
    assert datetime.fromisoformat(claimed["created_at"]) == due
    assert datetime.fromisoformat(claim["expires_at"]) == due + project.kernel.config.lease
    assert datetime.fromisoformat(claim["server_time"]) >= due
    assert (await worker.finish(claim)).status_code == 200


async def test_a_claim_that_is_prepared_is_seen_by_nobody(project: Project, lead: LeadTime) -> None:
    """It is committed at its time only."""
    lead.prepare_seconds, lead.commit_seconds = DELAY_SECONDS, 0.0
    worker = await project.agent("worker")
    waiter = await waiting(worker)
    turn_id = await worker.dispatch(worker, delay_seconds=DELAY_SECONDS)
    while not waiter.is_answered:
        turn, now = await worker.get(f"turns/{turn_id}"), time.time()
        due = datetime.fromisoformat(turn["not_before"]).timestamp()
        assert turn["state"] == (TurnState.QUEUED if now < due - MAX_AHEAD_SECONDS else turn["state"])
    assert (await waiter.claim())["turn_id"] == turn_id


async def test_a_claim_that_is_prepared_is_given_up_for_a_turn_that_comes_first(
    project: Project, lead: LeadTime
) -> None:
    """The other one is due sooner, so the claim that waits gets it."""
    lead.prepare_seconds = DELAY_SECONDS
    worker = await project.agent("worker")
    waiter = await waiting(worker)
    later = await worker.dispatch(worker, delay_seconds=DELAY_SECONDS)
    await asyncio.sleep(DELAY_SECONDS / 4)  # the claim waits by now
    project.kernel.timers.expect_anew()
    await asyncio.sleep(DELAY_SECONDS / 4)  # and is prepared
    sooner = await worker.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == sooner
    assert (await worker.get(f"turns/{later}"))["state"] == TurnState.QUEUED


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_a_repeat_of_a_claim_that_is_made_ahead_waits_until_its_turn_is_due(
    project: Project, elsewhere: Project, lead: LeadTime, is_elsewhere: bool
) -> None:
    """As when the kernel is killed meanwhile. It gets the turn, and the first token is void."""
    worker = await project.agent("worker")
    waiter, turn_id = await committed(worker, lead, {**WAIT, "Idempotency-Key": "k"})
    there = Agent(elsewhere if is_elsewhere else project, worker.ref, worker.credential)
    repeated, answered_at = await there.claim({"Idempotency-Key": "k"}), time.time()
    due = await due_at(worker, turn_id)
    assert repeated["turn_id"] == turn_id
    assert answered_at >= due.timestamp()
    assert datetime.fromisoformat(repeated["expires_at"]) >= due + project.kernel.config.lease
    assert (await worker.renew(await waiter.claim())).status_code == 409
    assert (await worker.finish(repeated)).status_code == 200


async def test_a_repeat_waits_no_longer_than_a_claim_is_ahead(project: Project, database: Database) -> None:
    """The database's clock may have been set back an hour since the claim."""
    worker = await project.agent("worker")
    turn_id, key = await worker.dispatch(worker), {"Idempotency-Key": "k"}
    assert (await worker.claim(key))["turn_id"] == turn_id
    await move_clock(database, -3600)
    try:
        async with asyncio.timeout(9):
            assert (await worker.claim(key))["turn_id"] == turn_id
    finally:
        await move_clock(database, 3600)


async def test_a_stop_meets_a_claim_that_is_made_ahead(project: Project, lead: LeadTime) -> None:
    """The turn runs, so whoever holds it hears of the stop when it renews its lease."""
    worker = await project.agent("worker", grants=("turn.stop.any",))
    waiter, turn_id = await committed(worker, lead)
    assert (await worker.stop(turn_id)).status_code == 200
    claim = await waiter.claim()
    assert (await worker.renew(claim)).json()["stop_requested"] is True
    assert (await worker.finish(claim, "stopped")).status_code == 200


async def test_a_message_meets_a_claim_that_is_made_ahead(project: Project, lead: LeadTime) -> None:
    """It is counted when the lease is renewed, and stands in the turn's records."""
    worker = await project.agent("worker")
    waiter, turn_id = await committed(worker, lead, REPRESENTED)
    assert (await worker.tell(turn_id, {"text": "the other file"})).status_code == 200
    claim = await waiter.claim()
    assert (await worker.renew(claim)).json()["record_count"] == 2
    records = (await worker.get(f"turns/{turn_id}/context"))["semantic_items"]
    assert [item["record"]["record_role"] for item in records] == ["bootstrap", "message"]


async def test_a_turn_that_is_dispatched_after_a_claim_is_made_ahead_goes_to_the_next(
    project: Project, lead: LeadTime
) -> None:
    """Nothing is lost, and no claim gets two."""
    worker = await project.agent("worker", capacity=2)
    waiter, later = await committed(worker, lead)
    sooner = await worker.dispatch(worker)
    assert (await worker.claim())["turn_id"] == sooner
    assert (await waiter.claim())["turn_id"] == later
    assert await project.held_count(worker) == 2


async def test_a_kernel_that_shuts_down_answers_a_claim_that_is_made_ahead(
    elsewhere: Project, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its turn is due, with the turn."""
    lead = LeadTime(prepare_seconds=0.0)
    monkeypatch.setattr(elsewhere.kernel.timers, "_lead", lead)
    worker = await project.agent("worker")
    waiter, turn_id = await committed(Agent(elsewhere, worker.ref, worker.credential), lead)
    elsewhere.kernel.notifier.close()
    assert (await waiter.claim())["turn_id"] == turn_id
    assert time.time() >= (await due_at(worker, turn_id)).timestamp()


async def test_a_claim_that_waits_at_each_of_two_kernels_gives_one_of_them_the_turn(
    project: Project, elsewhere: Project, lead: LeadTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both timers prepare it; the other claim goes on waiting."""
    lead.prepare_seconds = DELAY_SECONDS
    monkeypatch.setattr(elsewhere.kernel.timers, "_lead", LeadTime(prepare_seconds=DELAY_SECONDS))
    worker = await project.agent("worker", capacity=2)
    waiters = [await waiting(Agent(where, worker.ref, worker.credential)) for where in (project, elsewhere)]
    first = await worker.dispatch(worker, delay_seconds=DELAY_SECONDS)
    done, _ = await asyncio.wait([waiter.task for waiter in waiters], return_when=asyncio.FIRST_COMPLETED)
    assert [answer.result().json()["turn_id"] for answer in done] == [first]
    second = await worker.dispatch(worker)
    answers = [(await waiter.claim())["turn_id"] for waiter in waiters]
    assert sorted(answers) == sorted([first, second])


def test_the_lead_time_follows_how_long_claims_took_within_bounds() -> None:
    """A commit that waits long for a standby makes no claim much too early."""
    lead = LeadTime()
    for _ in range(50):
        lead.note(0.002, 0.001)
    assert (lead.prepare_seconds, lead.commit_seconds) == pytest.approx((0.002, 0.001), rel=0.01)
    for _ in range(50):
        lead.note(9.0, 9.0)
    assert lead.commit_seconds <= MAX_AHEAD_SECONDS
    assert lead.seconds < 0.05


async def test_a_response_that_is_held_sends_its_head_at_once_and_its_body_at_its_time() -> None:
    """Not a moment earlier."""
    sent: list[tuple[float, str]] = []
    loop_time = asyncio.get_running_loop().time

    async def send(message: Message) -> None:
        sent.append((loop_time(), message["type"]))

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    begun_at = loop_time()
    response = HeldResponse(Response("{}"), begun_at + 0.0302, lambda: sent.append((0.0, "is sent")))
    await response({"type": "http"}, receive, send)
    (head_at, head), (body_at, body), (_, then) = sent
    assert (head, body, then) == ("http.response.start", "http.response.body", "is sent")
    assert head_at < begun_at + 0.0302 <= body_at


async def test_a_turn_that_is_due_passes_over_no_other(project: Project) -> None:
    """Not one that is due as well and has a higher priority, one that is ready, or one of its serial key."""
    worker = await project.agent("worker", capacity=9)

    async def offered(*due: dict[str, Any]) -> list[Claimed]:
        turns = [await worker.dispatch(worker, delay_seconds=60, **more) for more in due]
        given: list[Claimed] = []
        waits = WaitingClaim(ClaimRequest(ClaimNext(agent=worker.ref), worker.bearer), given.append)
        kernel = project.kernel
        async with kernel.timers._doing:  # noqa: SLF001  # its timer makes none of them ready meanwhile
            await make_due(project, turns)
            await claim_due_turn(
                kernel.database, project.id, waits, lease=kernel.config.lease, lead=LeadTime()
            )
        while claim_at_hand := await worker.claim():  # what was not given
            await worker.finish(claim_at_hand)
        return given

    assert len(await offered({"serial_key": "b"})) == 1
    assert await offered({"serial_key": "b"}) == []  # the one that was given runs
    assert await offered({"priority": 0}, {"priority": 5}) == []
    await worker.dispatch(worker)
    assert await offered({}) == []
