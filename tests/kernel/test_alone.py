"""A statement for one item does what that for many does to each of its items."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cgworker.kernel.store.claims.claim import CLAIM_TURN, CLAIM_TURNS
from cgworker.kernel.store.claims.finish import FINISH_TURN, FINISH_TURNS
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.locks import AGENT_ROWS, holding, turn_row
from tests.kernel.project import Agent, Project, end_lease, token_of


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker", capacity=9)


@pytest.fixture(params=["alone", "beside another"])
async def beside(project: Project, request: pytest.FixtureRequest) -> Agent | None:
    """An agent whose item shares the statement, or none."""
    return None if request.param == "alone" else await project.agent("beside", capacity=9)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The statements that have run."""
    found: set[str] = set()
    published = Database.fetch_retrying_duplicates

    async def fetch(self: Database, statement: str, *values: Any) -> Any:
        found.add(statement)
        return await published(self, statement, *values)

    monkeypatch.setattr(Database, "fetch_retrying_duplicates", fetch)
    return found


async def held_by(agent: Agent, **more: Any) -> Any:
    """A turn that it dispatches to itself and claims."""
    await agent.dispatch(agent, **more)
    return await agent.claim()


async def finish(agent: Agent, claim: Any, beside: Agent | None, **finish: Any) -> int:
    """Finish a turn, and with it one of another agent; returns the status."""
    items = [ending(agent, claim, **finish)]
    if beside is not None:
        items.append(ending(beside, await held_by(beside)))
    answers = await agent.ask("POST", "turns:settle-many", {"items": items})
    status, *others = [answer["status"] for answer in answers.json()["items"]]
    assert others == [200] * (len(items) - 1)
    return int(status)


def ending(agent: Agent, claim: Any, **finish: Any) -> dict[str, Any]:
    finish = {"outcome": "succeeded", **finish}
    return {"claim": token_of(claim), "credential": agent.credential, "finish": finish}


async def claim(agent: Agent, beside: Agent | None, key: str | None = None) -> Any:
    """Claim a turn with its context, and with it one of another agent; returns the claim or None."""
    keyed = {} if key is None else {"idempotency_key": key}
    items = [{"agent": agent.json, "credential": agent.credential, **keyed}]
    if beside is not None:
        await beside.dispatch(beside)
        items.append({"agent": beside.json, "credential": beside.credential})
    prefer = {"Prefer": "return=representation"}
    answer = await agent.ask("POST", "claims:claim-many", {"items": items}, prefer)
    (status, claims), *others = [(each["status"], each["body"]) for each in answer.json()["items"]]
    assert [(status, len(claims)) for status, claims in others] == [(200, 1)] * (len(items) - 1)
    return (claims or [None])[0] if status == 200 else status


# ---------------------------------------------------------------- finishes


async def test_a_finish(worker: Agent, beside: Agent | None, used: set[str]) -> None:
    """It ends a child: with its record, its events, its slot, and the next turn of its serial key."""
    parent = await held_by(worker)
    authority = {"mode": "child_derivation", "parent_claim": token_of(parent)}
    child = await worker.dispatch(worker, authority=authority, serial_key="k")
    following = await worker.dispatch(worker, serial_key="k")
    claim = await worker.claim()
    assert (claim["turn_id"], await worker.claim()) == (child, None)
    status = await finish(worker, claim, beside, outcome="failed", final_payload=[1], meta={"note": "n"})
    assert status == 200
    assert (FINISH_TURN in used, FINISH_TURNS in used) == (beside is None, beside is not None)
    closed = await worker.get(f"turns/{child}")
    assert (closed["state"], closed["outcome"], closed["final_payload"]) == ("closed", "failed", [1])
    assert await worker.project.held_count(worker) == 1
    events = (await worker.get(f"turns/{child}/feed"))["items"]
    assert [event["event_type"] for event in events[-2:]] == ["turn.progress_appended", "turn.finished"]
    assert [event["payload_ref"] is None for event in events[-2:]] == [False, True]
    assert ["caller" in event["annotations"] for event in events[-2:]] == [True, True]
    of_parent = (await worker.get(f"turns/{parent['turn_id']}/feed"))["items"]
    assert [event["subject_id"] for event in of_parent if event["event_type"] == "turn.finished"] == [child]
    assert (await worker.claim())["turn_id"] == following


async def test_a_finish_without_a_record(worker: Agent, beside: Agent | None) -> None:
    """It has one event and no final role."""
    claim = await held_by(worker)
    assert await finish(worker, claim, beside) == 200
    row = await worker.project.row(claim["turn_id"])
    assert (row["record_count"], row["final_record_role"], row["final_seq"]) == (1, None, None)
    events = (await worker.get(f"turns/{claim['turn_id']}/feed"))["items"]
    assert [event["event_type"] for event in events[-2:]] == ["turn.claimed", "turn.finished"]
    assert await finish(worker, claim, beside) == 200  # a repeat
    assert await finish(worker, claim, beside, outcome="failed") == 409
    assert await worker.project.held_count(worker) == 0


@pytest.mark.parametrize("fault", ["token", "lease", "credential", "record"])
async def test_a_refused_finish_changes_nothing(
    project: Project, worker: Agent, beside: Agent | None, fault: str
) -> None:
    """A wrong token, a lease that has ended, a revoked credential, a second record of a role."""
    claim, more = await held_by(worker), {}
    if fault == "token":
        claim["token"] = "wrong"
    elif fault == "lease":
        await end_lease(project, claim["turn_id"])
    elif fault == "credential":
        revoke = "update cg_credentials set status = 'revoked', revoked_at = cg_now() where secret_hash = $1"
        await project.kernel.database.execute(revoke, worker.bearer.secret_hash)
    else:
        role = "provision_launch_started"
        payload = {"kind": f"{role}.v1", "assigned_agent_id": "a", "role": "r"}
        assert (await worker.append(claim, payload, role=role)).status_code == 200
        more = {"final_record_role": role, "final_payload": payload}
    before = await project.row(claim["turn_id"])
    assert await finish(worker, claim, beside, **more) == (403 if fault == "credential" else 409)
    assert await project.row(claim["turn_id"]) == before
    assert await project.held_count(worker) == 1


async def test_of_two_finishes_at_once_one_ends_the_turn(
    project: Project, elsewhere: Project, worker: Agent, beside: Agent | None
) -> None:
    """At two kernels, with two outcomes: the other is refused, and one slot is free."""
    claim = await held_by(worker)
    there = Agent(elsewhere, worker.ref, worker.credential)
    async with holding(project, turn_row(claim["turn_id"])) as lock:
        both = [
            asyncio.create_task(finish(agent, claim, beside, outcome=outcome))
            for agent, outcome in ((worker, "succeeded"), (there, "failed"))
        ]
        await lock.waited_for(2)
    assert sorted([await task for task in both]) == [200, 409]
    assert await project.held_count(worker) == 0
    events = (await worker.get(f"turns/{claim['turn_id']}/feed"))["items"]
    assert [event["event_type"] for event in events].count("turn.finished") == 1


# ---------------------------------------------------------------- claims


async def test_a_claim(worker: Agent, beside: Agent | None, used: set[str]) -> None:
    """The first turn by its order, with its records, its event, and a slot."""
    await worker.dispatch(worker)
    turn_id = await worker.dispatch(worker, input={"n": 1}, priority=1)
    got = await claim(worker, beside)
    assert got["turn_id"] == turn_id
    assert (CLAIM_TURN in used, CLAIM_TURNS in used) == (beside is None, beside is not None)
    (record,) = got["context"]["semantic_items"]
    assert record["content"]["cards"][0]["content"]["data"] == {"n": 1}
    assert got["context"] == await worker.get(f"turns/{turn_id}/context")
    assert await worker.project.held_count(worker) == 1
    events = (await worker.get(f"turns/{turn_id}/feed"))["items"]
    assert (events[-1]["event_type"], events[-1]["actor_id"]) == ("turn.claimed", "worker")
    assert (await worker.renew(got)).status_code == 200
    for payload in ("second", "third"):
        assert (await worker.append(got, payload)).status_code == 200
    assert (await worker.suspend(got)).status_code == 200
    await worker.resume(turn_id)
    again = await claim(worker, beside)
    assert len(again["context"]["semantic_items"]) == 3
    assert again["context"] == await worker.get(f"turns/{turn_id}/context")


@pytest.mark.parametrize("reason", ["no turn", "no slot", "drained", "serial key", "not due"])
async def test_no_claim(project: Project, worker: Agent, beside: Agent | None, reason: str) -> None:
    """None of its turns may be claimed, or it has no slot for it."""
    if reason in ("no slot", "serial key"):
        await held_by(worker, serial_key="k")
    if reason != "no turn":
        more: dict[str, dict[str, Any]] = {
            "serial key": {"serial_key": "k"},
            "not due": {"delay_seconds": 600},
        }
        await worker.dispatch(worker, **more.get(reason, {}))
    set_to = {"no slot": "capacity = 1", "drained": "accepts_work = false"}.get(reason, "enabled = true")
    where = "where project_id = $1 and agent_id = 'worker'"
    await project.kernel.database.execute(f"update cg_agents set {set_to} {where}", project.id)
    before = await project.held_count(worker)
    assert await claim(worker, beside) is None
    assert await project.held_count(worker) == before


async def test_a_claim_comes_after_what_it_is_blocked_by(
    project: Project, worker: Agent, beside: Agent | None
) -> None:
    """A lease that has ended, and a turn that is due and comes before another."""
    lost = await held_by(worker)
    await end_lease(project, lost["turn_id"])
    assert (await claim(worker, beside))["turn_id"] == lost["turn_id"]
    late = await worker.dispatch(worker, priority=1, delay_seconds=600)
    await worker.dispatch(worker)
    due = "update cg_turns set due_at = cg_now() where project_id = $1 and due_at is not null"
    await project.kernel.database.execute(due, project.id)
    assert (await claim(worker, beside))["turn_id"] == late


async def test_a_repeated_key_gets_the_same_turn(worker: Agent, beside: Agent | None) -> None:
    """And a claim with a revoked credential none."""
    turn_id = await worker.dispatch(worker)
    await worker.dispatch(worker)
    first, again = [await claim(worker, beside, "k") for _ in range(2)]
    assert first["turn_id"] == again["turn_id"] == turn_id
    assert first["token"] != again["token"]
    assert await worker.project.held_count(worker) == 1
    revoke = "update cg_credentials set status = 'revoked', revoked_at = cg_now() where secret_hash = $1"
    await worker.project.kernel.database.execute(revoke, worker.bearer.secret_hash)
    assert await claim(worker, beside) == 403


@pytest.mark.parametrize("common", ["slot", "key"])
async def test_of_two_claims_at_once_one_gets_the_turn(
    project: Project, elsewhere: Project, beside: Agent | None, common: str
) -> None:
    """At two kernels: one slot is taken once, and a key stands for one turn."""
    worker = await project.agent("worker", capacity=1 if common == "slot" else 9)
    there = Agent(elsewhere, worker.ref, worker.credential)
    turns = [await worker.dispatch(worker) for _ in range(2)]
    key = "k" if common == "key" else None
    async with holding(project, AGENT_ROWS) as lock:
        both = [asyncio.create_task(claim(agent, beside, key)) for agent in (worker, there)]
        await lock.waited_for(2)
    found = [got and got["turn_id"] for got in [await task for task in both]]
    if common == "slot":
        assert found.count(None) == 1
    else:
        assert found[0] == found[1]
    assert set(found) - {None} <= set(turns)
    assert await project.held_count(worker) == 1
