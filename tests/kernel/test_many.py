"""Many items in one request (difference 9), and in one statement: each is answered on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgworker.errors import ConflictError, FencingError, KernelOverloaded
from cgworker.kernel.store.batch import Answers, in_rounds, resolve_all
from cgworker.kernel.store.claims.append import Append, append_records
from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.wire.converter import structure_request
from cgworker.wire.records import AppendRecord
from cgworker.wire.refs import CardBoxRef
from cgworker.wire.turns import Dispatch
from tests.kernel.locks import holding, turn_row
from tests.kernel.parked import until
from tests.kernel.project import Agent, Project, end_lease, token_of


@pytest.fixture
async def requester(project: Project) -> Agent:
    return await project.agent("requester")


async def a_claim(requester: Agent, worker: Agent) -> Any:
    await requester.dispatch(worker)
    return await worker.claim()


def claiming(agent: Agent, **more: Any) -> dict[str, Any]:
    return {"agent": agent.json, "credential": agent.credential, **more}


async def ask_many(agent: Agent, route: str, items: list[Any], **headers: str) -> list[Any]:
    """The answers by item; who sends the request does not matter."""
    answer = await agent.project.client.post(
        f"/v3r1/projects/{agent.project.id}/{route}", json={"items": items}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_many_agents_claim_in_one_request(project: Project, requester: Agent) -> None:
    """By index, up to the limit, the oldest first; an empty list where there is no work."""
    one, two, three = [await project.agent(f"w{n}", capacity=5) for n in range(3)]
    turns = [await requester.dispatch(agent) for agent in (one, one, one, two)]
    items = [claiming(one, limit=2), claiming(three), claiming(two, limit=9)]
    answers = await ask_many(requester, "claims:claim-many", items)
    assert [answer["status"] for answer in answers] == [200, 200, 200]
    claimed = [[claim["turn_id"] for claim in answer["body"]] for answer in answers]
    assert claimed == [turns[:2], [], turns[3:]]
    assert [await project.held_count(agent) for agent in (one, two, three)] == [2, 1, 0]
    assert "context" not in answers[0]["body"][0]


async def test_many_claims_bring_their_contexts(project: Project, requester: Agent) -> None:
    """With the preference each claim is what the single route would give."""
    worker = await project.agent("worker", capacity=2)
    for n in range(2):
        await requester.dispatch(worker, input={"n": n})
    items = [claiming(worker, limit=2)]
    (answer,) = await ask_many(requester, "claims:claim-many", items, Prefer="return=representation")
    contexts = [claim["context"]["semantic_items"] for claim in answer["body"]]
    assert [items[0]["content"]["cards"][0]["content"]["data"]["n"] for items in contexts] == [0, 1]


async def test_a_repeated_item_gets_the_same_turns(project: Project, requester: Agent) -> None:
    """An item's key is that of the single route (difference 4): the answer may have been lost.

    The first tokens are void, and what is asked for beyond that is new.
    """
    worker = await project.agent("worker", capacity=5)
    turns = [await requester.dispatch(worker) for _ in range(4)]
    wanted = claiming(worker, limit=2, idempotency_key="k")
    [first] = await ask_many(requester, "claims:claim-many", [wanted])
    [again] = await ask_many(requester, "claims:claim-many", [{**wanted, "limit": 3}])
    assert [claim["turn_id"] for claim in first["body"]] == turns[:2]
    assert [claim["turn_id"] for claim in again["body"]] == turns[:3]
    assert await project.held_count(worker) == 3
    renewals = [{"claim": claim, "credential": worker.credential} for claim in first["body"] + again["body"]]
    renewed = await ask_many(requester, "claims:renew-many", renewals)
    assert [answer["status"] for answer in renewed] == [409, 409, 200, 200, 200]
    single = await worker.claim({"Idempotency-Key": "k"})
    assert single["turn_id"] == turns[0]


async def test_one_agent_may_ask_in_several_items(project: Project, requester: Agent) -> None:
    """No turn is given twice, and no slot."""
    worker = await project.agent("worker", capacity=2)
    turns = [await requester.dispatch(worker) for _ in range(3)]
    answers = await ask_many(requester, "claims:claim-many", [claiming(worker)] * 3)
    assert [[c["turn_id"] for c in answer["body"]] for answer in answers] == [[turns[0]], [turns[1]], []]


async def test_a_bad_item_does_not_harm_its_neighbours(project: Project, requester: Agent) -> None:
    """Each has the status and body of the single route, and no secret is echoed."""
    worker, other = await project.agent("worker", capacity=9), await project.agent("other")
    claims = [await a_claim(requester, worker) for _ in range(3)]
    foreign = {**token_of(claims[0]), "project_id": "elsewhere"}
    items = [
        {"claim": token_of(claims[0]), "credential": worker.credential},
        {"claim": {**token_of(claims[1]), "token": "wrong"}, "credential": worker.credential},
        {"claim": token_of(claims[1]), "credential": other.credential},
        {"claim": foreign, "credential": worker.credential},
        {"claim": {**token_of(claims[1]), "turn_id": "T-999"}, "credential": worker.credential},
        {"claim": token_of(claims[1]), "credential": "nonsense"},
        {"claim": token_of(claims[2]), "credential": worker.credential},
    ]
    answers = await ask_many(requester, "claims:renew-many", items)
    assert [answer["status"] for answer in answers] == [200, 409, 403, 409, 404, 401, 200]
    assert answers[1]["body"]["message"] == f"claim token mismatch for turn {claims[1]['turn_id']}"
    assert answers[3]["body"]["message"] == "claim project must match path project"
    assert all(claim["token"] not in str(answers) for claim in claims)
    assert worker.credential not in str(answers)


async def test_many_turns_are_settled_in_one_request(project: Project, requester: Agent) -> None:
    """Finishes and suspends mixed, with their faults in place."""
    worker = await project.agent("worker", capacity=9)
    claims = [await a_claim(requester, worker) for _ in range(5)]
    items: list[dict[str, Any]] = [
        {"finish": {"outcome": "succeeded", "final_payload": [1]}},
        {"suspend": {"reason": "later"}},
        {"finish": {"outcome": "nonsense"}},
        {},
        {"finish": {"outcome": "failed"}, "suspend": {"reason": "both"}},
    ]
    for claim, item in zip(claims, items, strict=True):
        item |= {"claim": token_of(claim), "credential": worker.credential}
    answers = await ask_many(requester, "turns:settle-many", items)
    assert [answer["status"] for answer in answers] == [200, 200, 422, 422, 422]
    states = [(await requester.get(f"turns/{claim['turn_id']}"))["state"] for claim in claims]
    assert states == ["closed", "suspended", "running", "running", "running"]
    assert await project.held_count(worker) == 3


async def test_of_two_settles_of_one_turn_the_first_wins(project: Project, requester: Agent) -> None:
    """As if one came after the other: a second one that says the same is answered, another is told why."""
    worker = await project.agent("worker", capacity=9)
    claim = await a_claim(requester, worker)
    shown = {"claim": token_of(claim), "credential": worker.credential}
    items = [
        {**shown, "finish": {"outcome": "succeeded"}},
        {**shown, "finish": {"outcome": "succeeded"}},
        {**shown, "finish": {"outcome": "failed"}},
        {**shown, "suspend": {"reason": "later"}},
    ]
    answers = await ask_many(requester, "turns:settle-many", items)
    assert [answer["status"] for answer in answers] == [200, 200, 409, 409]
    assert answers[2]["body"]["message"] == f"turn is not running: {claim['turn_id']}"


@pytest.mark.parametrize("key", ["", "k" * 256, "\x00"])
async def test_a_key_that_is_none_is_refused(requester: Agent, key: str) -> None:
    """As the header of the single route."""
    path = f"/v3r1/projects/{requester.project.id}/claims:claim-many"
    wanted = claiming(requester, idempotency_key=key)
    answer = await requester.project.client.post(path, json={"items": [wanted]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", "items", 0, "idempotency_key"]


async def test_a_request_for_too_much_is_refused(requester: Agent) -> None:
    """A thousand at once, and at least one for each that asks."""
    for items in ([claiming(requester, limit=1001)], [claiming(requester, limit=0)]):
        answer = await requester.ask("POST", "claims:claim-many", {"items": items})
        assert answer.status_code == 422


# ---------------------------------------------------------------- settling and claiming the next


def finishing(agent: Agent, claim: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "claim": token_of(claim),
        "credential": agent.credential,
        "finish": {"outcome": "succeeded"},
        **more,
    }


async def test_a_settled_turn_makes_room_for_the_next_in_the_same_request(
    project: Project, requester: Agent
) -> None:
    """The slot that the first gives back is the one that the second takes; the order is the oldest first."""
    worker = await project.agent("worker")
    claims = [await a_claim(requester, worker)]
    turns = [await requester.dispatch(worker) for _ in range(2)]
    for expected in (*turns, None):
        [answer] = await ask_many(requester, "turns:settle-many", [finishing(worker, claims[-1], next={})])
        assert (answer["status"], answer["body"], answer["next"]["status"]) == (200, {"ok": True}, 200)
        found = answer["next"]["body"]
        assert (found and found["turn_id"]) == expected
        claims.append(found)
    assert await project.held_count(worker) == 0


async def test_the_next_turn_comes_with_its_context_if_that_is_preferred(
    project: Project, requester: Agent
) -> None:
    """As with the single route (difference 8)."""
    worker = await project.agent("worker")
    claim = await a_claim(requester, worker)
    await requester.dispatch(worker, input={"n": 2})
    answer = await requester.ask(
        "POST",
        "turns:settle-many",
        {"items": [finishing(worker, claim, next={})]},
        headers={"prefer": "return=representation"},
    )
    assert answer.headers["preference-applied"] == "return=representation"  # and not the wait
    found = answer.json()["items"][0]["next"]["body"]
    assert found["context"]["turn"]["state"] == "running"
    assert len(found["context"]["semantic_items"]) == found["attempt"] == 1


async def test_a_repeat_gives_the_same_next_turn_with_a_fresh_token(
    project: Project, requester: Agent
) -> None:
    """The answer was lost: the settle is known, and so is the claim by its key (difference 4)."""
    worker = await project.agent("worker")
    claim = await a_claim(requester, worker)
    await requester.dispatch(worker)
    item = finishing(worker, claim, next={"idempotency_key": "k1"})
    [first] = await ask_many(requester, "turns:settle-many", [item])
    [second] = await ask_many(requester, "turns:settle-many", [item])
    assert second["status"] == 200
    assert first["next"]["body"]["turn_id"] == second["next"]["body"]["turn_id"]
    assert first["next"]["body"]["token"] != second["next"]["body"]["token"]
    assert await project.held_count(worker) == 1


async def test_what_is_finished_stands_where_the_others_meet_trouble(
    project: Project, requester: Agent
) -> None:
    """The database goes away before the suspends: their items say so; who waits for a finish has heard."""
    worker = await project.agent("worker", capacity=2)
    first, second = [await a_claim(requester, worker) for _ in range(2)]
    path, waits = f"turns/{first['turn_id']}", {"Prefer": "wait=20"}
    follower = asyncio.create_task(requester.get(path, waits, state="running"))
    await until(lambda: project.kernel.notifier.waiting_count == 1)
    suspending = {"claim": token_of(second), "credential": worker.credential, "suspend": {"reason": "later"}}
    async with holding(project, turn_row(second["turn_id"])) as held:
        items = [finishing(worker, first), suspending]
        settling = asyncio.create_task(ask_many(requester, "turns:settle-many", items))
        await held.waited_for(1)
        assert (await follower)["state"] == "closed"
        await held.cut_off()
    assert [answer["status"] for answer in await settling] == [200, 503]


async def test_what_is_settled_stands_where_the_next_claim_meets_trouble(
    project: Project, requester: Agent
) -> None:
    """Its item tells of both, where they are made one after the other."""
    worker = await project.agent("worker")
    claim = await a_claim(requester, worker)

    async def away(*_: object) -> Any:
        raise KernelOverloaded("the database is away", status=503)

    async def neither(_: str, items: Sequence[object]) -> list[None]:
        return [None for _ in items]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project.kernel.operations, "finish_and_claim_many", neither)
        patch.setattr(project.kernel.operations, "claim_many", away)
        [answer] = await ask_many(requester, "turns:settle-many", [finishing(worker, claim, next={})])
    assert (answer["status"], answer["next"]["status"]) == (200, 503)


async def test_who_may_not_settle_may_still_claim_and_the_other_way_round(
    project: Project, requester: Agent
) -> None:
    """The two are answered apart: a lost claim has ended, and a drained agent gets no more."""
    worker, drained = await project.agent("worker"), await project.agent("drained")
    stale, held = await a_claim(requester, worker), await a_claim(requester, drained)
    await end_lease(project, stale["turn_id"])
    await requester.dispatch(drained)
    body = {"agent": drained.json, "requested_by": drained.json}
    await drained.post("management/agents/drained:drain", body)
    items = [finishing(worker, stale, next={}), finishing(drained, held, next={})]
    lost, last = await ask_many(requester, "turns:settle-many", items)
    assert (lost["status"], lost["next"]["status"]) == (409, 200)
    assert lost["next"]["body"]["turn_id"] == stale["turn_id"]  # given back, and claimed anew
    assert (last["status"], last["next"]) == (200, {"status": 200, "body": None})


async def test_an_item_that_cannot_be_tried_claims_nothing(project: Project, requester: Agent) -> None:
    """Neither one with a fault nor one without a credential; and none that did not ask has `next`."""
    worker = await project.agent("worker", capacity=9)
    claims = [await a_claim(requester, worker) for _ in range(3)]
    await requester.dispatch(worker)
    items = [
        {**finishing(worker, claims[0], next={}), "finish": {"outcome": "nonsense"}},
        {**finishing(worker, claims[1], next={}), "credential": "nonsense"},
        finishing(worker, claims[2]),
    ]
    answers = await ask_many(requester, "turns:settle-many", items)
    assert [answer["status"] for answer in answers] == [422, 401, 200]
    assert not any("next" in answer for answer in answers)
    assert await project.held_count(worker) == 2


# ---------------------------------------------------------------- in one statement


async def test_many_dispatches_are_numbered_in_order(project: Project, requester: Agent) -> None:
    """One statement gives as many turns as it has new keys, without gaps; a repeated key is a replay."""
    worker = await project.agent("worker")
    bodies = [requester.dispatching(worker, f"k{n}", {"n": n}) for n in (1, 2, 3, 2)]
    bodies.insert(2, requester.dispatching(worker, "k-bad", turn_kind="turn.unknown.v1"))
    dispatches = [DispatchRequest(structure_request(Dispatch, body), requester.bearer) for body in bodies]
    found = await resolve_all(
        await dispatch_turns(
            project.kernel.database, project.id, dispatches, lease=project.kernel.config.lease
        )
    )
    assert [d.turn.turn_id if isinstance(d, Dispatched) else type(d).__name__ for d in found] == [
        "T-1",
        "T-2",
        "ConflictError",
        "T-3",
        "T-2",
    ]
    assert [d.is_new for d in found if isinstance(d, Dispatched)] == [True, True, True, False]


async def test_records_of_one_turn_keep_their_order(project: Project, requester: Agent) -> None:
    """Appended together they are numbered as they stand."""
    worker = await project.agent("worker")
    claim = await a_claim(requester, worker)
    bodies = [{"claim": token_of(claim), "payload": n} for n in range(4)]
    appends = [Append(structure_request(AppendRecord, body), worker.bearer) for body in bodies]
    boxes = await append_records(project.kernel.database, project.id, appends)
    context = await requester.get(f"turns/{claim['turn_id']}/context", after_turn_seq=1)
    items = context["semantic_items"]
    assert [item["content"]["cards"][0]["content"]["data"] for item in items] == [0, 1, 2, 3]
    assert [box.cardbox_id for box in boxes if isinstance(box, CardBoxRef)] == [
        item["record"]["cardbox_ref"]["cardbox_id"] for item in items
    ]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_record_is_the_same_alone_and_beside_others(
    project: Project, requester: Agent, count: int
) -> None:
    """One record has a statement of its own; what it stores and what it refuses are those of the other."""
    worker = await project.agent("worker", capacity=2)
    claims = [await a_claim(requester, worker) for _ in range(count)]

    async def append(payload: Any, role: str = "step", key: str | None = None, **claim: str) -> list[Any]:
        bodies = [
            {"claim": token_of(held) | claim, "payload": payload, "role": role, "meta": {"note": "why"}}
            for held in claims
        ]
        appends = [
            Append(structure_request(AppendRecord, body), worker.bearer, key and f"{key}-{place}")
            for place, body in enumerate(bodies)
        ]
        return await resolve_all(await append_records(project.kernel.database, project.id, appends))

    first = await append({"n": 1}, key="k")
    assert await append({"n": 1}, key="k") == first
    launch = {"kind": "provision_launch_started.v1", "assigned_agent_id": "a", "role": "r"}
    (box, *_) = await append(launch, "provision_launch_started")
    refused = [
        await append({"n": 2}, key="k"),
        await append(launch, "provision_launch_started"),
        await append({"n": 3}, token="cgct_another"),
    ]
    for answers in refused:
        assert [type(answer) for answer in answers] == [type(answers[0])] * count
    assert [type(answers[0]) for answers in refused] == [ConflictError, ConflictError, FencingError]

    records = await project.kernel.database.fetch(
        "select turn_seq, role, box_id, metadata ->> 'cg_role' as card, payload ->> 'n' as n "
        "from cg_records where project_id = $1 and turn_number = 1 and turn_seq > 1 order by turn_seq",
        project.id,
    )
    assert [tuple(record) for record in records] == [
        (2, "step", first[0].cardbox_id, "step", "1"),
        (3, "provision_launch_started", box.cardbox_id, "provision_launch_started", None),
    ]
    events = await project.kernel.database.fetch(
        "select subject_id, actor_id, agent_id, cause_kind, turn_number, payload_box_id, "
        "annotations ->> 'record_role' as role, annotations -> 'caller' ->> 'note' as note from cg_ledger "
        "where project_id = $1 and turn_number = 1 and event_type = 'turn.progress_appended' "
        "order by event_id",
        project.id,
    )
    assert [tuple(event) for event in events] == [
        ("T-1", "worker", "worker", "external_request", 1, box_id, role, "why")
        for _, role, box_id, *_ in records
    ]


@given(st.lists(st.frozensets(st.integers(0, 5), max_size=3), max_size=20))
async def test_items_that_meet_never_share_a_round(items: list[frozenset[int]]) -> None:
    """What has a key in common runs one after the other, in the given order; all are answered in place."""
    rounds: list[list[frozenset[int]]] = []

    async def run(some: list[frozenset[int]]) -> Answers[frozenset[int]]:
        rounds.append(some)
        return list(some)

    assert await in_rounds(items, lambda item: item, run) == items
    for some in rounds:
        assert sum(len(item) for item in some) == len(frozenset().union(*some))
    for key in range(6):
        assert [i for some in rounds for i in some if key in i] == [i for i in items if key in i]
