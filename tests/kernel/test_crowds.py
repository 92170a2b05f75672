"""Many at once: what must hold under any concurrency (differences 1, 3, 6)."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from tests.kernel.project import Agent, Project, end_lease, released_at_once

Settle = Callable[[Agent, Any], Awaitable[httpx.Response]]

CROWD = 32


async def all_at_once(count: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What each of `count` callers got, all of them started before the first is answered."""
    answers: dict[int, Any] = {}

    async def one(place: int) -> None:
        answers[place] = await work(place)

    async with anyio.create_task_group() as group:
        for place in range(count):
            group.start_soon(one, place)
    return [answers[place] for place in range(count)]


# ---------------------------------------------------------------- slots


@pytest.mark.parametrize("capacity", [1, 5])
async def test_capacity_is_never_exceeded(project: Project, capacity: int) -> None:
    """32 claimers of one agent: never more than its capacity at once, and in the end every turn once."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=capacity)
    turns = {await requester.dispatch(worker) for _ in range(24)}
    closed: Counter[str] = Counter()
    held = most = 0

    async def work(_: int) -> None:
        nonlocal held, most
        while len(closed) < len(turns):
            claim = await worker.claim()
            if claim is None:
                await anyio.lowlevel.checkpoint()
                continue
            held, most = held + 1, max(most, held + 1)
            assert await project.held_count(worker) <= capacity
            held -= 1
            assert (await worker.finish(claim)).status_code == 200
            closed[claim["turn_id"]] += 1

    await all_at_once(CROWD, work)
    assert most <= capacity
    assert closed == Counter(turns)
    assert await project.held_count(worker) == 0


async def test_claims_of_all_kinds_give_their_slots_back(project: Project) -> None:
    """Finished, suspended, given back, closed by a stop: whatever the mix, no slot is lost or won."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=7)
    for _ in range(40):
        await requester.dispatch(worker)

    async def work(place: int) -> None:
        for step in range(8):
            claim = await worker.claim()
            if claim is None:
                await worker.post("claims:reconcile-expired", {})
                continue
            match (place + step) % 4:
                case 0:
                    await worker.finish(claim)
                case 1:
                    await worker.suspend(claim)
                    await worker.resume(claim["turn_id"])
                case ends:
                    await end_lease(project, claim["turn_id"])
                    if ends == 2:
                        await worker.stop(claim["turn_id"])

    await all_at_once(16, work)
    running = await worker.get("projection/turns", state="running", limit=500)
    assert await project.held_count(worker) == len(running["items"]) <= 7


# ---------------------------------------------------------------- dispatches


async def test_simultaneous_dispatches_of_one_key_are_one_turn(project: Project) -> None:
    """64 first dispatches of one key: one turn is born and all hear of it."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    turns = await all_at_once(64, lambda _: requester.dispatch(worker, "one-key", {"n": 1}))
    assert set(turns) == {"T-1"}
    assert await requester.dispatch(worker) == "T-2"


async def test_children_of_one_parent_are_dispatched_at_once(project: Project) -> None:
    """Under one claim, each key is one child, and the parent's feed tells of each birth once."""
    worker = await project.agent("worker")
    parent = await worker.dispatch(worker)
    claim = await worker.claim()
    authority = {"mode": "child_derivation", "parent_claim": claim}
    keys = [f"child-{n % 16}" for n in range(CROWD)]
    turns = await all_at_once(
        CROWD, lambda n: worker.dispatch(worker, keys[n], {"n": n % 16}, authority=authority)
    )
    assert len(set(turns)) == 16 == len(set(zip(keys, turns, strict=True)))
    feed = await worker.get(f"turns/{parent}/feed")
    assert sum(event["event_type"] == "turn.spawned" for event in feed["items"]) == 1 + 16


async def test_reports_and_dispatches_to_one_agent_never_deadlock(project: Project) -> None:
    """96 at once on one agent (the reference answered 13 of them with 500)."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=50)

    async def ask(place: int) -> int:
        if place % 2:
            body = {"request_id": secrets.token_hex(8), "records": [{"role": "r", "payload": place}]}
            return (await worker.ask("POST", "agents/worker/work-memory-reports", body)).status_code
        await requester.dispatch(worker)
        return (await worker.finish(await worker.claim())).status_code

    assert set(await all_at_once(96, ask)) == {200}
    turns = await requester.get("projection/turns", limit=500)
    assert sorted(turn["project_turn_seq"] for turn in turns["items"]) == list(range(1, 97))


# ---------------------------------------------------------------- repeats


async def test_simultaneous_repeats_of_a_claim_are_one_claim(project: Project) -> None:
    """With one key all get the same turn; the last token is the good one, and one slot is taken."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=9)
    for _ in range(9):
        await requester.dispatch(worker)
    claims = await all_at_once(8, lambda _: worker.claim({"Idempotency-Key": "k"}))
    assert len({claim["turn_id"] for claim in claims}) == 1
    assert await project.held_count(worker) == 1
    finishes = [(await worker.finish(claim)).status_code for claim in claims]
    assert sorted(finishes) == [200] + [409] * 7


async def test_simultaneous_repeats_of_an_append_are_one_record(project: Project) -> None:
    """All are answered with the same content."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await requester.dispatch(worker)
    claim = await worker.claim()
    boxes = await all_at_once(16, lambda _: worker.append(claim, 1, {"Idempotency-Key": "k"}))
    assert len({box.json()["cardbox_id"] for box in boxes}) == 1
    assert len((await worker.get(f"turns/{claim['turn_id']}/context"))["semantic_items"]) == 2


async def test_of_simultaneous_settles_one_wins(project: Project) -> None:
    """Whatever 32 holders of one token want, the turn ends once, and the others are told."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    await requester.dispatch(worker)
    claim = await worker.claim()
    answers = await all_at_once(CROWD, lambda n: worker.finish(claim, final_payload=n))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (CROWD - 1)
    winner = next(place for place, answer in enumerate(answers) if answer.status_code == 200)
    assert (await worker.get(f"turns/{claim['turn_id']}"))["final_payload"] == winner


async def finish(worker: Agent, claim: Any) -> httpx.Response:
    return await worker.finish(claim, final_payload=1)


@pytest.mark.parametrize(
    ("here", "there"),
    [(finish, Agent.finish), (finish, Agent.suspend), (Agent.suspend, finish)],
    ids=["finish twice", "finish and suspend", "suspend and finish"],
)
async def test_of_settles_at_two_kernels_one_wins(
    project: Project, elsewhere: Project, here: Settle, there: Settle
) -> None:
    """Both found the claim good and waited for the same turn: the second to get it looks again."""
    worker = await project.agent("worker")
    turn_id = await worker.dispatch(worker)
    claim = await worker.claim()
    same_worker = evolve(worker, project=elsewhere)
    answers = await released_at_once(project, lambda: here(worker, claim), lambda: there(same_worker, claim))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert await project.held_count(worker) == 0
    feed = await worker.get(f"turns/{turn_id}/feed")
    ends = [e for e in feed["items"] if e["event_type"] in ("turn.finished", "turn.suspended")]
    assert len(ends) == 1


# ---------------------------------------------------------------- feeds


async def follow(agent: Agent, path: str, until: anyio.Event, seen: list[dict[str, Any]]) -> None:
    """Read a feed to its end, waiting for news, until there is nothing left after `until`."""
    after = 0
    while True:
        is_last = until.is_set()
        page = await agent.get(path, {"Prefer": "wait=1"}, after_ledger_seq=after, limit=50)
        seen += page["items"]
        after = page["next_after_ledger_seq"]
        if is_last and not page["items"]:
            return


async def test_a_follower_sees_every_event_once_and_in_order(project: Project) -> None:
    """32 writers, followers of the project's, an agent's and a turn's feed, all waiting for news."""
    requester = await project.agent("requester")
    workers = [await project.agent(f"w{n}", capacity=50) for n in range(4)]
    done = anyio.Event()
    feeds: dict[str, list[dict[str, Any]]] = {"projection/feed": [], "agents/w0/feed": []}

    async def write(place: int) -> None:
        worker = workers[place % 4]
        for n in range(4):
            await requester.dispatch(worker)
            claim = await worker.claim()
            await worker.append(claim, {"n": n})
            await worker.finish(claim, final_payload=n)

    async with anyio.create_task_group() as group:
        for path, seen in feeds.items():
            group.start_soon(follow, requester, path, done, seen)
        await all_at_once(CROWD, write)
        done.set()
    for seen in feeds.values():
        numbers = [event["ledger_seq"] for event in seen]
        assert numbers == sorted(set(numbers))
    project_feed, agent_feed = feeds.values()
    statement = "select count(*) from cg_ledger where project_id = $1"
    written = await project.kernel.database.fetchval(statement, project.id)
    assert [event["ledger_seq"] for event in project_feed] == list(range(1, written + 1))
    assert sum(event["event_type"] == "turn.finished" for event in agent_feed) == CROWD
