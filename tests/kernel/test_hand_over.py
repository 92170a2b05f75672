"""A dispatch to an agent that waits hands its turn over; all else is as after a dispatch and a claim."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import anyio
import pytest
from attrs import evolve

from cgworker.errors import KernelOverloaded
from cgworker.kernel.store.claims.hand_over import HAND_OVER_TURN
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.locks import PROJECT_ROW, holding
from tests.kernel.parked import QUICK_SECONDS, WAIT, until, waiting
from tests.kernel.project import Agent, Project, end_lease, token_of
from tests.kernel.test_round_trips import Count, busy, round_trips

assert round_trips  # a fixture

WITH_CONTEXT = {"Prefer": "wait=20, return=representation"}


@pytest.fixture
async def requester(project: Project) -> Agent:
    agent = await project.agent("requester")
    await agent.claim()  # notes the credential's use
    return agent


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker", capacity=9)


async def state_of(agent: Agent, turn_id: str) -> str:
    return str((await agent.get(f"turns/{turn_id}"))["state"])


async def claims_given(project: Project) -> float:
    """What the kernel's figures say."""
    lines = (await project.client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("cg_claims_total"))


def without_what_differs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events but for what no two turns have in common."""
    unlike = ("event_id", "ledger_seq", "created_at", "subject_id", "payload_ref", "cause")
    return [{name: value for name, value in event.items() if name not in unlike} for event in events]


# ---------------------------------------------------------------- what is handed over


async def test_it_is_one_statement(requester: Agent, worker: Agent, round_trips: Count) -> None:
    """Nothing is asked of the database beyond the dispatch, and the claim's context comes with it."""
    waiter = await waiting(worker, WITH_CONTEXT)
    round_trips()
    turn_id = await requester.dispatch(worker, input={"task": "now"})
    claim = await waiter.claim()
    assert round_trips() == 1
    assert claim["turn_id"] == turn_id
    assert claim["context"]["turn"]["state"] == "running"
    (item,) = claim["context"]["semantic_items"]
    assert item["content"]["cards"][0]["content"]["data"] == {"task": "now"}
    assert (await worker.finish(claim)).status_code == 200


async def test_the_claim_is_what_it_would_have_been(requester: Agent, worker: Agent) -> None:
    """Shown as it was asked for, with the same keys and context as that of a turn that was queued first."""
    waiter = await waiting(worker, WITH_CONTEXT)
    await requester.dispatch(worker)
    given = await waiter.claim()
    turn_id = await requester.dispatch(worker)
    claimed = await worker.claim(WITH_CONTEXT)
    assert given.keys() == claimed.keys()
    assert (given["attempt"], given["lease_seconds"]) == (1, claimed["lease_seconds"])
    assert given["context"]["turn"].keys() == claimed["context"]["turn"].keys()
    assert given["context"] == await worker.get(f"turns/{given['turn_id']}/context")
    assert claimed["context"] == await worker.get(f"turns/{turn_id}/context")
    plain = await waiting(worker)
    await requester.dispatch(worker)
    assert (await plain.claim()).keys() == token_of(given).keys()


async def test_the_ledger_says_the_same(requester: Agent, worker: Agent) -> None:
    """Born, recorded, claimed, in that order, with the remarks of both callers."""
    said = {"note": "claimed", "annotations": {"owner": "me"}}
    asked = {"reason": "dispatched", "annotations": {"n": 1}}
    waiter = await waiting(worker, meta=said)
    handed = await requester.dispatch(worker, meta=asked)
    await waiter.claim()
    queued = await requester.dispatch(worker, meta=asked)
    await worker.post("agents/worker/claims:claim", {"agent": worker.json, "meta": said})
    feeds = [(await worker.get(f"turns/{turn_id}/feed"))["items"] for turn_id in (handed, queued)]
    assert [event["event_type"] for event in feeds[0]] == [
        "turn.spawned",
        "turn.bootstrap_recorded",
        "turn.claimed",
    ]
    one, other = (without_what_differs(feed) for feed in feeds)
    assert one == other
    assert [event["payload_ref"] is None for event in feeds[0]] == [False, False, True]


async def test_a_child_is_handed_over(worker: Agent, project: Project) -> None:
    """Under its parent's claim, which is extended; the parent's feed tells of its birth, not of its claim."""
    other = await project.agent("other")
    parent = await worker.dispatch(worker)
    claim = await worker.claim()
    authority = {"mode": "child_derivation", "parent_claim": token_of(claim)}
    waiter = await waiting(other)
    before = (await project.row(parent))["claim_expires_at"]
    child = await worker.dispatch(other, authority=authority)
    assert (await waiter.claim())["turn_id"] == child
    assert (await project.row(parent))["claim_expires_at"] > before
    events = [e["event_type"] for e in (await worker.get(f"turns/{parent}/feed"))["items"]]
    assert events.count("turn.spawned") == 2
    assert events.count("turn.claimed") == 1


async def test_news_of_it_reach_who_follows(requester: Agent, worker: Agent, project: Project) -> None:
    """Its three events come together, and it counts as a claim given."""
    before = await claims_given(project)
    waiter = await waiting(worker)
    feed = asyncio.create_task(requester.get("agents/worker/feed", WAIT, after_ledger_seq=2))
    await until(lambda: project.kernel.notifier.waiting_count == 2)
    await requester.dispatch(worker)
    async with asyncio.timeout(QUICK_SECONDS):
        assert [event["event_type"] for event in (await feed)["items"]][-1] == "turn.claimed"
    await waiter.claim()
    assert await claims_given(project) == before + 1


async def test_who_waited_longest_comes_first(requester: Agent, worker: Agent) -> None:
    """Each dispatch goes to one, and the others wait on."""
    waiters = [await waiting(worker) for _ in range(3)]
    for waiter in waiters:
        turn_id = await requester.dispatch(worker)
        assert (await waiter.claim())["turn_id"] == turn_id
        assert sum(one.is_answered for one in waiters) == 1 + waiters.index(waiter)


async def test_turns_that_come_together_reach_as_many_claims(requester: Agent, worker: Agent) -> None:
    """On a busy kernel, where dispatches share a statement, claims are woken: none gets two turns."""
    waiters = [await waiting(worker, WITH_CONTEXT) for _ in range(4)]
    with busy(worker.project.kernel):
        turns = await asyncio.gather(*(requester.dispatch(worker) for _ in range(6)))
    given = [(await waiter.claim())["turn_id"] for waiter in waiters]
    assert sorted(given) == sorted(turns)[:4]
    assert await worker.project.held_count(worker) == 4


# ---------------------------------------------------------------- what stands against it


async def test_an_older_turn_comes_first(requester: Agent, worker: Agent, project: Project) -> None:
    """One that is queued without anybody having been told: the waiting claim gets it, and not the new one."""
    older = await requester.dispatch(worker)
    await worker.suspend(await worker.claim())
    waiter = await waiting(worker)
    again = "update cg_turns set state = 'queued' where project_id = $1"
    await project.kernel.database.execute(again, project.id)
    newer = await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == older
    assert await state_of(worker, newer) == "queued"


async def test_a_turn_whose_lease_has_ended_comes_first(
    requester: Agent, worker: Agent, project: Project
) -> None:
    """It is reconciled by the waiting claim, which then has it."""
    older = await requester.dispatch(worker)
    await worker.claim()
    waiter = await waiting(worker)
    await end_lease(project, older)
    newer = await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == older
    assert await state_of(worker, newer) == "queued"


async def test_a_turn_numbered_meanwhile_comes_first(
    requester: Agent, worker: Agent, project: Project, elsewhere: Project
) -> None:
    """Another kernel's, which a statement that began before cannot see."""
    waiter = await waiting(worker)
    there = evolve(requester, project=elsewhere)
    async with holding(project, "select from cg_projects where project_id = $1 for update") as held:
        older = asyncio.create_task(there.dispatch(worker))
        await held.waited_for(1)
        newer = asyncio.create_task(requester.dispatch(worker))
        await held.waited_for(2)
    assert (await older, await newer) == ("T-1", "T-2")
    assert (await waiter.claim())["turn_id"] == "T-1"
    assert await state_of(worker, "T-2") == "queued"


@pytest.mark.parametrize("what", ["accepts_work", "enabled"])
async def test_an_agent_that_takes_no_work_gets_none(
    requester: Agent, worker: Agent, project: Project, what: str
) -> None:
    """Drained or disabled while it waited: its turn is queued."""
    waiter = await waiting(worker, {"Prefer": "wait=1"})
    statements = {
        "accepts_work": "update cg_agents set accepts_work = false where project_id = $1 and agent_id = $2",
        "enabled": "update cg_agents set enabled = false where project_id = $1 and agent_id = $2",
    }
    await project.kernel.database.execute(statements[what], project.id, "worker")
    turn_id = await requester.dispatch(worker)
    if what == "enabled":
        assert await waiter.status() == 403
    else:
        assert await waiter.claim() is None
    assert await state_of(requester, turn_id) == "queued"
    assert await project.held_count(worker) == 0


async def test_a_revoked_credential_gets_nothing(requester: Agent, worker: Agent, project: Project) -> None:
    """Revoked while the claim waited: it is refused, and the turn is there for who may have it."""
    waiter = await waiting(worker)
    revoke = "update cg_credentials set status = 'revoked', revoked_at = now() where credential_id = $1"
    await project.kernel.database.execute(revoke, worker.bearer.credential_id)
    turn_id = await requester.dispatch(worker)
    assert await waiter.status() == 403
    assert await state_of(requester, turn_id) == "queued"


async def test_an_agent_without_a_free_slot_gets_none(requester: Agent, project: Project) -> None:
    """Its turn is queued, and taken when a slot is given back."""
    worker = await project.agent("busy")
    await requester.dispatch(worker)
    held = await worker.claim()
    waiter = await waiting(worker)
    turn_id = await requester.dispatch(worker)
    assert await state_of(worker, turn_id) == "queued"
    await worker.finish(held)
    assert (await waiter.claim())["turn_id"] == turn_id


async def test_a_dispatch_does_not_wait_for_the_agent(
    requester: Agent, worker: Agent, project: Project
) -> None:
    """Somebody has locked its row: the turn is queued at once, and the claim waits for it instead."""
    waiter = await waiting(worker)
    async with holding(project, "select from cg_agents where project_id = $1 for update"):
        async with asyncio.timeout(QUICK_SECONDS):
            turn_id = await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == turn_id


async def test_a_replay_and_a_refusal_hand_nothing_over(requester: Agent, worker: Agent) -> None:
    """No turn is born by them; the claim waits on, for the next."""
    first = await requester.dispatch(worker, "one-key")
    await worker.finish(await worker.claim())
    waiter = await waiting(worker)
    assert await requester.dispatch(worker, "one-key") == first
    refused = await requester.ask(
        "POST", "turns:dispatch", requester.dispatching(worker, turn_kind="turn.unheard_of.v1")
    )
    assert refused.status_code == 409
    assert not waiter.is_answered
    turn_id = await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == turn_id


# ---------------------------------------------------------------- repeats


async def test_a_repeat_gives_the_turn_again(requester: Agent, worker: Agent) -> None:
    """By its Idempotency-Key, with a fresh token that voids the first; the slot is taken once."""
    key = {"Idempotency-Key": "k"}
    waiter = await waiting(worker, {**WAIT, **key})
    turn_id = await requester.dispatch(worker)
    first = await waiter.claim()
    again = await worker.claim(key)
    assert first["turn_id"] == again["turn_id"] == turn_id
    assert await worker.project.held_count(worker) == 1
    assert (await worker.finish(first)).status_code == 409
    assert (await worker.finish(again)).status_code == 200


async def test_a_repeat_that_waits_too_has_the_last_word(requester: Agent, worker: Agent) -> None:
    """Both are answered with one turn: whoever asked again has the token that counts."""
    waiters = [await waiting(worker, {**WAIT, "Idempotency-Key": "k"}) for _ in range(2)]
    turn_id = await requester.dispatch(worker)
    first, again = [await waiter.claim() for waiter in waiters]
    assert first["turn_id"] == again["turn_id"] == turn_id
    assert (await worker.finish(first)).status_code == 409
    assert (await worker.finish(again)).status_code == 200


async def test_a_key_of_another_body_is_refused(requester: Agent, worker: Agent) -> None:
    """Two that wait with one key and different bodies: the second hears of the first."""
    key = {**WAIT, "Idempotency-Key": "k"}
    waiter, other = await waiting(worker, key), await waiting(worker, key, meta={"note": "another"})
    await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == "T-1"
    assert await other.status() == 409


async def test_a_key_used_meanwhile_gets_no_second_turn(
    requester: Agent,
    worker: Agent,
    project: Project,
    elsewhere: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At another kernel, with the answer lost: the claim that waits here is given that turn, not the next."""
    key = {"Idempotency-Key": "k"}
    waiter = await waiting(worker, {**WAIT, **key})
    with monkeypatch.context() as deaf:
        deaf.setattr(project.kernel.notifier, "_wake_here", lambda _: None)
        first = await evolve(requester, project=elsewhere).dispatch(worker)
        assert (await evolve(worker, project=elsewhere).claim(key))["turn_id"] == first
        await asyncio.sleep(0.1)
    second = await requester.dispatch(worker)
    assert (await waiter.claim())["turn_id"] == first
    assert await state_of(worker, second) == "queued"


# ---------------------------------------------------------------- what happens in between


async def test_a_wait_that_ends_meanwhile_is_for_the_turn(
    requester: Agent, worker: Agent, project: Project
) -> None:
    """Its time is up while the dispatch's statement runs: null would leave a running turn to nobody."""
    waiter = await waiting(worker, {"Prefer": "wait=1"})
    async with holding(project, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(requester.dispatch(worker))
        await held.waited_for(1)
        await asyncio.sleep(1.2)
        assert not waiter.is_answered
    assert (await waiter.claim())["turn_id"] == await dispatch
    assert await project.held_count(worker) == 1


async def test_who_asks_again_meanwhile_gets_the_turn(
    requester: Agent, worker: Agent, project: Project
) -> None:
    """Its first request was cut off while the statement ran: null would be taken for the answer."""
    key = {"Idempotency-Key": "again"}
    waiter = await waiting(worker, {**WAIT, **key})
    async with holding(project, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(requester.dispatch(worker))
        await held.waited_for(1)
        waiter.task.cancel()
        again = asyncio.create_task(worker.claim(key))
        await asyncio.sleep(0.1)
        assert not again.done()
    claim = await again
    assert claim["turn_id"] == await dispatch
    assert (await worker.finish(claim)).status_code == 200
    assert await project.held_count(worker) == 0


async def test_a_wait_that_ends_for_nothing_ends(requester: Agent, worker: Agent, project: Project) -> None:
    """As above, but nothing came of the statement."""
    await requester.dispatch(worker, "one-key")
    await worker.finish(await worker.claim())
    waiter = await waiting(worker, {"Prefer": "wait=1"})
    async with holding(project, "select from cg_spawns where project_id = $1 for update"):
        assert await requester.dispatch(worker, "one-key") == "T-1"
    assert await waiter.claim() is None


async def test_one_that_looks_again_by_the_clock_claims_no_second_turn(
    requester: Agent, worker: Agent, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what it was offered to instead."""
    monkeypatch.setattr(project.kernel.notifier, "recheck_seconds", 0.05)
    waiter = await waiting(worker)
    async with holding(project, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(requester.dispatch(worker))
        await held.waited_for(1)
        await asyncio.sleep(0.3)
    assert (await waiter.claim())["turn_id"] == await dispatch
    assert await project.held_count(worker) == 1


async def test_a_closing_kernel_gives_what_was_claimed(
    requester: Agent, worker: Agent, elsewhere: Project
) -> None:
    """Whoever waits is answered at once, but who has a turn in this moment is answered with it."""
    there = evolve(worker, project=elsewhere)
    waiters = [await waiting(there) for _ in range(2)]
    async with holding(elsewhere, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(evolve(requester, project=elsewhere).dispatch(worker))
        await held.waited_for(1)
        elsewhere.kernel.notifier.close()
        assert await waiters[1].claim() is None
        assert not waiters[0].is_answered
    assert (await waiters[0].claim())["turn_id"] == await dispatch


async def test_a_client_that_is_gone_meanwhile_finds_its_claim(
    requester: Agent, worker: Agent, project: Project
) -> None:
    """By its key, as if the answer had been lost on the way."""
    key = {"Idempotency-Key": "k"}
    waiter = await waiting(worker, {**WAIT, **key})
    async with holding(project, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(requester.dispatch(worker))
        await held.waited_for(1)
        waiter.task.cancel()
        await asyncio.wait([waiter.task])
    turn_id = await dispatch
    assert await state_of(worker, turn_id) == "running"
    assert (await worker.claim(key))["turn_id"] == turn_id


async def test_the_database_breaks_in_the_middle(requester: Agent, worker: Agent, project: Project) -> None:
    """Nothing is born: the dispatch is told to come back, and the claim waits for that."""
    waiter = await waiting(worker)
    body = requester.dispatching(worker)
    async with holding(project, PROJECT_ROW) as held:
        dispatch = asyncio.create_task(requester.ask("POST", "turns:dispatch", body))
        await held.waited_for(1)
        await held.cut_off()
        assert (await dispatch).status_code == 503
    assert not waiter.is_answered
    turn = await requester.post("turns:dispatch", body)
    assert (await waiter.claim())["turn_id"] == turn["turn_id"]


async def test_a_statement_of_unknown_outcome_loses_no_claim(
    requester: Agent, worker: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed and nobody was told: the claim looks for itself, and finds its turn by its key."""
    published = Database.fetch_retrying_duplicates

    async def lose(self: Database, statement: str, *values: Any) -> Any:
        rows = await published(self, statement, *values)
        if statement == HAND_OVER_TURN:
            raise KernelOverloaded("lost", status=503)
        return rows

    waiter = await waiting(worker, {**WAIT, "Idempotency-Key": "k"})
    monkeypatch.setattr(Database, "fetch_retrying_duplicates", lose)
    body = requester.dispatching(worker)
    assert (await requester.ask("POST", "turns:dispatch", body)).status_code == 503
    claim = await waiter.claim()
    assert (await requester.post("turns:dispatch", body))["turn_id"] == claim["turn_id"]
    assert (await worker.finish(claim)).status_code == 200


async def test_what_is_wrong_with_the_claim_refuses_no_dispatch(
    requester: Agent, worker: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn is queued then."""
    waiter = await waiting(worker)
    monkeypatch.setattr("cgworker.kernel.store.claims.claim.annotate", lambda *_: "no json", raising=True)
    turn_id = await requester.dispatch(worker)
    assert await state_of(requester, turn_id) == "queued"
    waiter.task.cancel()


# ---------------------------------------------------------------- crowds


@pytest.mark.parametrize("capacity", [1, 3])
async def test_slots_are_never_exceeded(project: Project, elsewhere: Project, capacity: int) -> None:
    """Sixteen that wait and sixteen that dispatch, at two kernels: every turn once, and never too many."""
    requester = await project.agent("requester")
    worker = await project.agent("worker", capacity=capacity)
    places = [project, elsewhere]
    closed: list[str] = []
    held = most = 0

    async def work(place: int) -> None:
        nonlocal held, most
        here = evolve(worker, project=places[place % 2])
        while len(closed) < 64:
            headers = {"Prefer": "wait=1", "Idempotency-Key": secrets.token_hex(8)}
            claim = await here.claim(headers)
            if claim is None:
                continue
            held, most = held + 1, max(most, held + 1)
            await anyio.lowlevel.checkpoint()
            held -= 1
            assert (await here.finish(claim)).status_code == 200
            closed.append(claim["turn_id"])

    async def dispatch(place: int) -> None:
        here = evolve(requester, project=places[place % 2])
        for _ in range(4):
            await here.dispatch(worker)
            body = {"request_id": secrets.token_hex(8), "records": [{"role": "r", "payload": place}]}
            reporter = evolve(worker, project=places[place % 2])
            await reporter.post("agents/worker/work-memory-reports", body)

    async with anyio.create_task_group() as group:
        for place in range(16):
            group.start_soon(work, place)
            group.start_soon(dispatch, place)
    assert most <= capacity
    assert len(closed) == len(set(closed)) == 64
    assert await project.held_count(worker) == 0


async def test_idle_workers_and_lone_dispatches(project: Project) -> None:
    """One turn after the other finds one of many that wait, in the order of birth."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=50)
    waiters = [await waiting(worker) for _ in range(20)]
    turns = [await requester.dispatch(worker) for _ in range(20)]
    assert [(await waiter.claim())["turn_id"] for waiter in waiters] == turns
    assert await project.held_count(worker) == 20
