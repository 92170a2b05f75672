"""Claims: one turn, one holder, one slot; what differences 2, 3, 4 and 8 add to the recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from tests.kernel.locks import AGENT_ROWS, holding
from tests.kernel.project import Agent, Project, client_of, end_lease, released_at_once, token_of


@pytest.fixture
async def requester(project: Project) -> Agent:
    return await project.agent("requester")


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker")


async def events_of(agent: Agent, turn_id: str) -> list[str]:
    feed = await agent.get(f"turns/{turn_id}/feed")
    return [event["event_type"].removeprefix("turn.") for event in feed["items"]]


async def test_a_turn_goes_from_dispatch_to_closed(requester: Agent, worker: Agent) -> None:
    """Dispatch, claim and finish are the whole life of a simple turn."""
    turn_id = await requester.dispatch(worker, input={"n": 1})
    claim = await worker.claim()
    assert (await worker.finish(claim, final_payload={"n": 2})).json() == {"ok": True}
    turn = await requester.get(f"turns/{turn_id}")
    assert (turn["state"], turn["outcome"], turn["final_payload"]) == ("closed", "succeeded", {"n": 2})
    assert await events_of(requester, turn_id) == [
        "spawned",
        "bootstrap_recorded",
        "claimed",
        "progress_appended",
        "finished",
    ]


# ---------------------------------------------------------------- what a claim brings along


async def test_a_claim_brings_its_context_when_asked(requester: Agent, worker: Agent) -> None:
    """With return=representation a claim saves the calls that a worker would make next."""
    await requester.dispatch(worker, input={"n": 1})
    claim = await worker.claim({"Prefer": "return=representation"})
    assert claim["context"] == await worker.get(f"turns/{claim['turn_id']}/context")
    assert (claim["lease_seconds"], claim["attempt"]) == (30.0, 1)
    assert claim["server_time"] < claim["expires_at"]


async def test_a_claim_alone_is_the_reference_s(requester: Agent, worker: Agent) -> None:
    """Without the preference there is no key that the reference's client does not know."""
    await requester.dispatch(worker)
    assert sorted(await worker.claim()) == ["agent_id", "expires_at", "project_id", "token", "turn_id"]


# ---------------------------------------------------------------- ended leases


async def dispatch_child(worker: Agent, claim: Any) -> httpx.Response:
    authority = {"mode": "child_derivation", "parent_claim": token_of(claim)}
    return await worker.ask("POST", "turns:dispatch", worker.dispatching(worker, authority=authority))


@pytest.mark.parametrize(
    "use",
    [
        Agent.renew,
        lambda worker, claim: worker.append(claim, 1),
        lambda worker, claim: worker.finish(claim, final_payload=1),
        Agent.suspend,
        dispatch_child,
    ],
    ids=["renew", "append", "finish", "suspend", "child"],
)
async def test_an_ended_lease_is_good_for_nothing(
    project: Project,
    requester: Agent,
    worker: Agent,
    use: Callable[[Agent, Any], Awaitable[httpx.Response]],
) -> None:
    """Even while nobody has given the turn back yet; nothing comes of the refused."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()
    await end_lease(project, turn_id)
    refusal = await use(worker, claim)
    told = {"error": "FencingError", "message": f"claim expired for turn {turn_id}"}
    assert (refusal.status_code, refusal.json()) == (409, told)
    assert await events_of(requester, turn_id) == ["spawned", "bootstrap_recorded", "claimed"]


async def test_an_ended_lease_does_not_block_its_agent(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """Claiming gives the ended claim back first, and counts the attempt."""
    turn_id = await requester.dispatch(worker)
    first = await worker.claim()
    await end_lease(project, turn_id)
    second = await worker.claim({"Prefer": "return=representation"})
    assert (second["turn_id"], second["attempt"]) == (turn_id, 2)
    assert (await worker.renew(first)).json()["message"] == f"claim token mismatch for turn {turn_id}"
    assert await events_of(requester, turn_id) == [
        "spawned",
        "bootstrap_recorded",
        "claimed",
        "claim_reconciled",
        "claimed",
    ]


async def test_an_ended_lease_that_somebody_holds_does_not_block_its_agent(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """While the reaper or a late settle decides about the turn, a claim waits for what comes of it."""
    turn_id = await requester.dispatch(worker)
    await worker.claim()
    await end_lease(project, turn_id)
    (claim,) = await released_at_once(project, worker.claim)
    assert claim["turn_id"] == turn_id


async def test_leases_that_end_all_the_time_do_not_block_their_agent(kernel: Kernel) -> None:
    """Each claim finds a turn, also when a lease ends while it gives back others."""
    hasty = KernelConfig(claim_timeout_seconds=0.1, claim_reaper_interval_seconds=0)
    async with open_kernel(hasty, kernel.database) as its_kernel, client_of(its_kernel) as client:
        worker = await Project(its_kernel, client).agent("worker", capacity=1000)
        for _ in range(200):
            await worker.dispatch(worker)
            assert await worker.claim() is not None


async def test_attempts_are_counted_from_the_last_suspension(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """A suspension is a decision of the worker and no crash: what came before it counts no more."""
    turn_id = await requester.dispatch(worker)
    await worker.claim()
    await end_lease(project, turn_id)
    await worker.suspend(await worker.claim())
    await worker.resume(turn_id)
    assert (await worker.claim({"Prefer": "return=representation"}))["attempt"] == 1


async def test_a_turn_closed_after_its_lease_gives_the_slot_back(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """A stop that closes an abandoned turn frees its agent."""
    turn_id = await requester.dispatch(worker)
    await worker.claim()
    await end_lease(project, turn_id)
    await worker.stop(turn_id)
    assert (await requester.get(f"turns/{turn_id}"))["outcome"] == "stopped"
    assert await project.held_count(worker) == 0


# ---------------------------------------------------------------- slots


async def test_an_agent_holds_as_many_turns_as_its_capacity(project: Project, requester: Agent) -> None:
    """Up to capacity, and again as soon as one is settled."""
    worker = await project.agent("many", capacity=2)
    for _ in range(3):
        await requester.dispatch(worker)
    claims = [await worker.claim() for _ in range(3)]
    assert [claim is None for claim in claims] == [False, False, True]
    await worker.suspend(claims[0])
    assert await worker.claim() is not None
    assert await project.held_count(worker) == 2


async def test_a_drained_agent_gets_nothing(requester: Agent, worker: Agent) -> None:
    """Its turns stay queued until it accepts work again."""
    turn_id = await requester.dispatch(worker)
    asking = {"agent": worker.json, "requested_by": worker.json}
    await worker.post("management/agents/worker:drain", asking)
    assert await worker.claim() is None
    await worker.post("management/agents/worker:resume", asking)
    assert (await worker.claim())["turn_id"] == turn_id


# ---------------------------------------------------------------- repeats of a claim


async def test_a_repeated_claim_gives_the_same_turn_and_voids_the_first_token(
    requester: Agent, worker: Agent
) -> None:
    """A claim whose answer was lost is asked for again with its key."""
    turn_id = await requester.dispatch(worker)
    await requester.dispatch(worker)
    key = {"Idempotency-Key": "c1"}
    first, second = await worker.claim(key), await worker.claim(key)
    assert first["turn_id"] == second["turn_id"] == turn_id
    assert (await worker.finish(first)).status_code == 409
    assert (await worker.finish(second)).status_code == 200
    assert (await events_of(requester, turn_id)).count("claimed") == 1


async def test_a_repeat_while_the_first_is_under_way_waits_for_it(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """Its client has given up and asks again: null would leave a running turn to nobody."""
    turn = await requester.dispatch(worker)
    key = {"Idempotency-Key": "c1"}
    async with holding(project, AGENT_ROWS) as held:
        first = asyncio.create_task(worker.claim(key))
        await held.waited_for(1)
        first.cancel()
        again = asyncio.create_task(worker.claim(key))
        await asyncio.sleep(0.1)
        assert not again.done()
    assert (await again)["turn_id"] == turn


async def test_no_work_is_not_remembered(requester: Agent, worker: Agent) -> None:
    """The key of a claim that found nothing can find something later."""
    key = {"Idempotency-Key": "c1"}
    assert await worker.claim(key) is None
    turn_id = await requester.dispatch(worker)
    assert (await worker.claim(key))["turn_id"] == turn_id


async def test_a_key_is_free_again_once_its_claim_is_settled(requester: Agent, worker: Agent) -> None:
    """A repeat gives the first turn only while it runs under the first claim."""
    await requester.dispatch(worker)
    key = {"Idempotency-Key": "c1"}
    await worker.finish(await worker.claim(key))
    second = await requester.dispatch(worker)
    assert (await worker.claim(key))["turn_id"] == second


async def test_a_key_belongs_to_one_body(requester: Agent, worker: Agent) -> None:
    """Another body under the same key is a mistake of the caller."""
    await requester.dispatch(worker)
    key = {"Idempotency-Key": "c1"}
    await worker.claim(key)
    body = {"agent": worker.json, "meta": {"note": "other"}}
    answer = await worker.ask("POST", "agents/worker/claims:claim", body, key)
    assert (answer.status_code, answer.json()["error"]) == (409, "ConflictError")


async def test_a_repeat_after_the_lease_is_a_new_claim(
    project: Project, requester: Agent, worker: Agent
) -> None:
    """An ended claim is not revived by its key: the turn is given back and the attempt counts."""
    turn_id = await requester.dispatch(worker)
    key = {"Idempotency-Key": "c1"}
    await worker.claim(key)
    await end_lease(project, turn_id)
    again = await worker.claim({**key, "Prefer": "return=representation"})
    assert (again["turn_id"], again["attempt"]) == (turn_id, 2)


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_has_a_length(worker: Agent, key: str) -> None:
    """An empty key and an endless one are refused before anything is looked up."""
    answer = await worker.ask(
        "POST", "agents/worker/claims:claim", {"agent": worker.json}, {"Idempotency-Key": key}
    )
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["header", "idempotency-key"])


# ---------------------------------------------------------------- repeats of a settle


async def test_a_repeated_finish_is_answered_and_changes_nothing(requester: Agent, worker: Agent) -> None:
    """Same token, same content: the first answer was lost. Numbers are compared as numbers."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()
    await worker.finish(claim, final_payload={"a": 1, "b": 2})
    before = await requester.get(f"turns/{turn_id}")
    again = await worker.finish(claim, final_payload={"b": 2.0, "a": 1}, meta={"note": "again"})
    assert again.json() == {"ok": True}
    assert await requester.get(f"turns/{turn_id}") == before
    assert (await events_of(requester, turn_id)).count("finished") == 1


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "failed", "final_payload": 1},
        {"final_payload": 2},
        {"final_payload": 1, "final_record_role": "r"},
        {},
    ],
)
async def test_another_finish_is_refused(requester: Agent, worker: Agent, other: dict[str, object]) -> None:
    """Outcome, payload and role are the content; whichever differs, the turn is closed already."""
    await requester.dispatch(worker)
    claim = await worker.claim()
    await worker.finish(claim, final_payload=1)
    answer = await worker.finish(claim, **{"outcome": "succeeded", **other})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (409, "FencingError")


async def test_a_repeated_suspend_is_answered_until_the_next_claim(requester: Agent, worker: Agent) -> None:
    """Also after a resume; the next claim is another holder's business."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()
    await worker.suspend(claim, "later", note="n")
    assert (await worker.suspend(claim, "later", note="n")).status_code == 200
    assert (await worker.suspend(claim, "never", note="n")).status_code == 409
    await worker.resume(turn_id)
    assert (await worker.suspend(claim, "later", note="n")).status_code == 200
    await worker.claim()
    assert (await worker.suspend(claim, "later", note="n")).status_code == 409


# ---------------------------------------------------------------- repeats of a record


async def test_a_repeated_append_adds_nothing(requester: Agent, worker: Agent) -> None:
    """The first answer comes again, also when the claim has ended meanwhile."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()
    key = {"Idempotency-Key": "a1"}
    first = await worker.append(claim, {"step": 1}, key)
    await worker.finish(claim)
    assert (await worker.append(claim, {"step": 1.0}, key)).json() == first.json()
    context = await requester.get(f"turns/{turn_id}/context")
    assert len(context["semantic_items"]) == 2


async def test_an_append_key_belongs_to_one_record(requester: Agent, worker: Agent) -> None:
    """Another payload, role or turn under the same key is a mistake of the caller."""
    await requester.dispatch(worker)
    claim = await worker.claim()
    key = {"Idempotency-Key": "a1"}
    await worker.append(claim, 1, key)
    assert (await worker.append(claim, 2, key)).json()["error"] == "ConflictError"
    assert (await worker.append(claim, 1, key, role="other")).json()["error"] == "ConflictError"
    await worker.finish(claim)
    await requester.dispatch(worker)
    assert (await worker.append(await worker.claim(), 1, key)).json()["error"] == "ConflictError"


async def test_a_refused_append_leaves_its_key_free(requester: Agent, worker: Agent) -> None:
    """All or nothing: what was refused can be repeated under a good claim."""
    await requester.dispatch(worker)
    claim = await worker.claim()
    key = {"Idempotency-Key": "a1"}
    assert (await worker.append({**claim, "token": "wrong"}, 1, key)).status_code == 409
    assert (await worker.append(claim, 1, key)).status_code == 200


# ---------------------------------------------------------------- the singleton role


LAUNCH = {"kind": "provision_launch_started.v1", "assigned_agent_id": "a", "role": "r"}
ROLE = "provision_launch_started"


async def test_a_turn_takes_one_launch_record(requester: Agent, worker: Agent) -> None:
    """The second is refused, by an append and by a finish alike (the reference answers 500 to the latter)."""
    await requester.dispatch(worker)
    claim = await worker.claim()
    assert (await worker.append(claim, LAUNCH, role=ROLE)).status_code == 200
    for answer in (
        await worker.append(claim, LAUNCH, role=ROLE),
        await worker.finish(claim, final_payload=LAUNCH, final_record_role=ROLE),
    ):
        message = "singleton semantic record already exists for role=provision_launch_started"
        assert answer.json() == {"error": "ConflictError", "message": message}
    assert (await worker.finish(claim)).status_code == 200


async def test_a_launch_record_is_checked(requester: Agent, worker: Agent) -> None:
    """Its payload has a form; the fence is asked first."""
    await requester.dispatch(worker)
    claim = await worker.claim()
    assert (await worker.append(claim, {}, role=ROLE)).json()["message"].endswith("kind mismatch")
    bad = await worker.finish(claim, final_payload=1, final_record_role=ROLE)
    assert bad.json()["message"].endswith("must be an object")
    stale = await worker.append({**claim, "token": "wrong"}, {}, role=ROLE)
    assert stale.json()["error"] == "FencingError"


# ---------------------------------------------------------------- stop flag


async def test_a_renewal_tells_of_a_stop_request(requester: Agent, worker: Agent) -> None:
    """The holder hears of it with the call that it makes anyway."""
    turn_id = await requester.dispatch(worker)
    claim = await worker.claim()
    assert (await worker.renew(claim)).json()["stop_requested"] is False
    await worker.stop(turn_id)
    assert (await worker.renew(claim)).json()["stop_requested"] is True


async def test_a_stop_queues_a_turn_that_waits_to_be_tried_again(requester: Agent, worker: Agent) -> None:
    """Nothing is left to wait for (difference 30); a turn put aside for another reason stays so."""
    turn_id, other = await requester.dispatch(worker), await requester.dispatch(worker)
    await worker.suspend(await worker.claim(), "worker_retry")
    await worker.suspend(await worker.claim(), "later")
    await worker.stop(turn_id)
    await worker.stop(other)
    assert (await requester.get(f"turns/{turn_id}"))["state"] == "queued"
    assert (await requester.get(f"turns/{other}"))["state"] == "suspended"
    assert (await worker.claim())["turn_id"] == turn_id
    feed = (await worker.get(f"turns/{turn_id}/feed"))["items"]
    assert [event["actor_kind"] for event in feed if event["event_type"] == "turn.resumed"] == ["system"]
