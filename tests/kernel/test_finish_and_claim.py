"""A finish and the next claim, made together in one statement: each is what it would be by itself.

Where a test takes `beside`, it runs twice: with the statement for one item and with that for many.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cgworker.kernel.store.claims.finish_and_claim import FINISH_AND_CLAIM_TURN, FINISH_AND_CLAIM_TURNS
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.locks import holding, turn_row
from tests.kernel.project import Agent, Project, end_lease, token_of


@pytest.fixture
async def requester(project: Project) -> Agent:
    return await project.agent("requester")


@pytest.fixture(params=["alone", "beside another"])
async def beside(project: Project, request: pytest.FixtureRequest) -> Agent | None:
    """An agent whose item shares the statement, or none."""
    return None if request.param == "alone" else await project.agent("beside", capacity=9)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many turns each statement has finished, of those that were tried together with a claim."""
    done: list[int] = []
    published = Database.fetch_retrying_duplicates

    async def fetch(self: Database, statement: str, *values: Any) -> Any:
        rows = await published(self, statement, *values)
        if statement in (FINISH_AND_CLAIM_TURN, FINISH_AND_CLAIM_TURNS):
            done.append(len({row["asked_place"] for row in rows}))
        return rows

    monkeypatch.setattr(Database, "fetch_retrying_duplicates", fetch)
    return done


async def held_by(agent: Agent, count: int) -> list[Any]:
    """Turns that it dispatches to itself and claims."""
    for _ in range(count):
        await agent.dispatch(agent)
    return [await agent.claim() for _ in range(count)]


def item(agent: Agent, claim: Any, key: str | None = None, **finish: Any) -> dict[str, Any]:
    return {
        "claim": token_of(claim),
        "credential": agent.credential,
        "finish": {"outcome": "succeeded", **finish},
        "next": {"idempotency_key": key},
    }


async def settle(agent: Agent, *items: dict[str, Any], beside: Agent | None = None) -> list[Any]:
    """Settle and claim in one request; returns by place the status and what was claimed."""
    answers = await answers_to(agent, *items, beside=beside)
    assert {answer["next"]["status"] for answer in answers} == {200}
    return [(answer["status"], answer["next"]["body"]) for answer in answers]


async def answers_to(agent: Agent, *items: dict[str, Any], beside: Agent | None = None) -> list[Any]:
    """The answers to a request, without that to an item of another agent, which must be settled."""
    others = [] if beside is None else [item(beside, held) for held in await held_by(beside, 1)]
    answer = await agent.ask("POST", "turns:settle-many", {"items": [*items, *others]})
    found = answer.json()["items"]
    assert [each["status"] for each in found[len(items) :]] == [200] * len(others)
    return list(found[: len(items)])


def ids(found: list[Any]) -> list[str | None]:
    return [claim and claim["turn_id"] for _, claim in found]


async def test_the_turns_of_each_agent_go_to_its_requests_in_order(
    project: Project, together: list[int]
) -> None:
    """One has too few for its requests: it gets slots back."""
    rich, poor = await project.agent("rich", capacity=3), await project.agent("poor", capacity=2)
    held = await held_by(rich, 3), await held_by(poor, 2)
    first = await rich.dispatch(rich)
    await rich.dispatch(rich)
    urgent, only = await rich.dispatch(rich, priority=1), await poor.dispatch(poor)
    items = [item(rich, held[0][0]), item(poor, held[1][0]), item(rich, held[0][1]), item(poor, held[1][1])]
    found = await settle(rich, *items)
    assert [status for status, _ in found] == [200] * 4
    assert ids(found) == [urgent, only, first, None]
    assert together == [4]
    assert [await project.held_count(agent) for agent in (rich, poor)] == [3, 1]


async def test_what_follows_is_in_the_order_of_the_ledger(
    project: Project, together: list[int], beside: Agent | None
) -> None:
    """The end of a turn with its record, and then the claim of the next; both with their content."""
    worker = await project.agent("worker")
    [claim] = await held_by(worker, 1)
    following = await worker.dispatch(worker)
    said = {"note": "done", "annotations": {"n": 1}}
    ending = item(worker, claim, final_payload={"n": 1}, meta=said)
    await settle(worker, ending, beside=beside)
    feed = (await worker.get("agents/worker/feed", after_ledger_seq=0, limit=100))["items"]
    words = [(event["subject_id"], event["event_type"]) for event in feed][-3:]
    ended = claim["turn_id"]
    assert words == [
        (ended, "turn.progress_appended"),
        (ended, "turn.finished"),
        (following, "turn.claimed"),
    ]
    closed = await worker.get(f"turns/{ended}")
    assert (closed["state"], closed["final_payload"]) == ("closed", {"n": 1})
    assert ["caller" in event["annotations"] for event in feed[-3:]] == [True, True, False]
    assert (await worker.finish(claim, final_payload={"n": 1}, meta=said)).status_code == 200  # a repeat
    assert (await worker.finish(claim, final_payload={"n": 2})).status_code == 409
    assert together == [1 + (beside is not None)]


@pytest.mark.parametrize("change", ["capacity", "drain", "disable"])
async def test_a_slot_that_is_gone_is_not_taken_again(
    project: Project, together: list[int], change: str, beside: Agent | None
) -> None:
    """The capacity was lowered, or the agent drained or disabled."""
    worker = await project.agent("worker", capacity=2)
    held = await held_by(worker, 2)
    await worker.dispatch(worker)
    set_to = {"capacity": "capacity = 1", "drain": "accepts_work = false", "disable": "enabled = false"}
    where = "where project_id = $1 and agent_id = 'worker'"
    await project.kernel.database.execute(f"update cg_agents set {set_to[change]} {where}", project.id)
    [got] = await answers_to(worker, item(worker, held[0]), beside=beside)
    other = beside is not None
    if change == "disable":
        assert (got["status"], got["next"]["status"], together) == (403, 403, [other])
    else:
        assert (got["status"], got["next"], together) == (200, {"status": 200, "body": None}, [1 + other])
        assert await project.held_count(worker) == 1


async def test_a_drain_that_is_answered_first_leaves_the_slot_free(
    project: Project, together: list[int], beside: Agent | None
) -> None:
    """It is written while the statement runs, and committed before it."""
    worker = await project.agent("worker")
    [claim] = await held_by(worker, 1)
    await worker.dispatch(worker)
    drain = "update cg_agents set accepts_work = false where project_id = $1 and agent_id = 'worker'"
    async with holding(project, drain) as lock:
        asked = asyncio.create_task(answers_to(worker, item(worker, claim), beside=beside))
        await lock.waited_for(1)
    [got] = await asked
    assert (got["status"], got["next"]) == (200, {"status": 200, "body": None})
    assert together == [1 + (beside is not None)]
    assert await project.held_count(worker) == 0


async def test_what_needs_a_second_look_is_done_one_after_the_other(
    project: Project, together: list[int], beside: Agent | None
) -> None:
    """A lease that has ended, a turn that ends a serial key's wait, and a repeat."""
    other = beside is not None
    worker = await project.agent("worker", capacity=2)
    lost, claim = await held_by(worker, 2)
    await end_lease(project, lost["turn_id"])
    assert ids(await settle(worker, item(worker, claim), beside=beside)) == [lost["turn_id"]]
    assert together.pop() == other

    serial = await project.agent("serial")
    await serial.dispatch(serial, serial_key="k")
    claim, second = await serial.claim(), await serial.dispatch(serial, serial_key="k")
    assert ids(await settle(serial, item(serial, claim), beside=beside)) == [second]
    assert together.pop() == other

    plain = await project.agent("plain")
    [claim] = await held_by(plain, 1)
    following = await plain.dispatch(plain)
    assert ids(await settle(plain, item(plain, claim, "k1"), beside=beside)) == [following]
    assert ids(await settle(plain, item(plain, claim, "k1"), beside=beside)) == [following]
    assert together == [1 + other, other]
    assert await project.held_count(plain) == 1


async def test_a_bad_item_among_good_ones_is_refused_alone(project: Project, together: list[int]) -> None:
    """It gets the answers that it would get by itself; so does one whose turn another item has ended."""
    worker = await project.agent("worker", capacity=5)
    held = await held_by(worker, 3)
    queued = {await worker.dispatch(worker) for _ in range(4)}
    bad = {**item(worker, held[1]), "claim": {**token_of(held[1]), "token": "wrong"}}
    found = await settle(worker, item(worker, held[0]), bad, item(worker, held[2]), item(worker, held[0]))
    assert [status for status, _ in found] == [200, 409, 200, 200]
    assert set(ids(found)) == queued
    assert together == [2, 0]
    assert await project.held_count(worker) == 5


@pytest.mark.parametrize("fault", ["token", "lease", "credential", "record"])
async def test_what_a_finish_refuses_changes_nothing(
    project: Project, together: list[int], beside: Agent | None, fault: str
) -> None:
    """A wrong token, a lease that has ended, a revoked credential, a second record of a role."""
    worker = await project.agent("worker", capacity=2)
    [claim] = await held_by(worker, 1)
    asked = item(worker, claim)
    await worker.dispatch(worker)
    if fault == "token":
        asked["claim"] = {**asked["claim"], "token": "wrong"}
    elif fault == "lease":
        await end_lease(project, claim["turn_id"])
    elif fault == "credential":
        revoke = "update cg_credentials set status = 'revoked', revoked_at = cg_now() where secret_hash = $1"
        await project.kernel.database.execute(revoke, worker.bearer.secret_hash)
    else:
        role = "provision_launch_started"
        payload = {"kind": f"{role}.v1", "assigned_agent_id": "a", "role": "r"}
        assert (await worker.append(claim, payload, role=role)).status_code == 200
        asked["finish"] |= {"final_record_role": role, "final_payload": payload}
    before = await project.row(claim["turn_id"])
    [got] = await answers_to(worker, asked, beside=beside)
    assert got["status"] == (403 if fault == "credential" else 409)
    assert together == [beside is not None]
    assert (await project.row(claim["turn_id"]))["record_count"] == before["record_count"]
    assert (await project.row(claim["turn_id"]))["outcome"] is None


@pytest.mark.parametrize("common", ["turn", "key"])
async def test_of_two_at_once_one_wins(
    project: Project, elsewhere: Project, beside: Agent | None, common: str
) -> None:
    """At two kernels: one turn ends once, and a key stands for one claim."""
    worker = await project.agent("worker", capacity=2)
    held = await held_by(worker, 2)
    queued = [await worker.dispatch(worker) for _ in range(2)]
    there = Agent(elsewhere, worker.ref, worker.credential)
    claims, keys = (held[:1] * 2, ("k1", "k2")) if common == "turn" else (held, ("k", "k"))
    pair = [(worker, item(worker, claims[0], keys[0])), (there, item(there, claims[1], keys[1]))]
    async with holding(project, turn_row(claims[0]["turn_id"])) as lock:
        both = [asyncio.create_task(answers_to(agent, asked, beside=beside)) for agent, asked in pair]
        await lock.waited_for(2 if common == "turn" else 1)
        if common == "key":
            await both[1]
    answers = [(await task)[0] for task in both]
    assert [answer["status"] for answer in answers] == [200, 200]  # the second repeats the first
    found = [answer["next"]["body"] and answer["next"]["body"]["turn_id"] for answer in answers]
    if common == "turn":  # the second one's claim finds the other slot taken
        assert found.count(None) == 1
        assert queued[0] in found
        assert await project.held_count(worker) == 2
    else:
        assert found == [queued[0]] * 2
        assert await project.held_count(worker) == 1


async def test_a_crowd_of_workers_gets_every_turn_once(project: Project, requester: Agent) -> None:
    """Two agents, and requests that meet in one statement and in several."""
    agents = [await project.agent(f"worker-{place}", capacity=4) for place in range(2)]
    turns = {await requester.dispatch(agent) for agent in agents for _ in range(30)}
    closed: list[str] = []

    async def work(agent: Agent) -> None:
        claim = await agent.claim()
        while claim is not None:
            closed.append(claim["turn_id"])
            [(status, claim)] = await settle(agent, item(agent, claim, f"after {claim['turn_id']}"))
            assert status == 200

    await asyncio.gather(*(work(agent) for agent in agents for _ in range(4)))
    assert sorted(closed) == sorted(turns)
    assert [await project.held_count(agent) for agent in agents] == [0, 0]
