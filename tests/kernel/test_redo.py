"""Doing a closed turn again (difference 34)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.kernel.project import KIND, Agent, Project
from tests.kernel.test_long_poll import while_waiting

INPUT = {"n": 1.50, "big": 10**30}


async def failed_turn(asker: Agent, worker: Agent, input: Any = INPUT) -> str:
    """A closed turn with records of every kind."""
    turn_id = await asker.dispatch(worker, input=input)
    claim = await worker.claim()
    for role in ("step", "progress", "children", "question", "answer", "answer_refused"):
        await worker.append(claim, {"key": role}, role=role)
    await asker.tell(turn_id, "told")
    await worker.finish(claim, "failed", final_payload={"error": "x"})
    return turn_id


async def records(agent: Agent, turn_id: str) -> list[tuple[str, Any]]:
    """Role and payload of each record of a turn, in order."""
    items = (await agent.get(f"turns/{turn_id}/context"))["semantic_items"]
    assert [item["record"]["turn_seq"] for item in items] == list(range(1, len(items) + 1))
    cards = [item["content"]["cards"][0]["content"] for item in items]
    roles = [item["record"]["record_role"] for item in items]
    return list(zip(roles, [card.get("data", card.get("text")) for card in cards], strict=True))


async def test_a_turn_done_again_has_the_same_input_kind_and_target(project: Project) -> None:
    """A new turn, queued; `redo_of` in its annotations names the first one, which stays as it is."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker)
    answer = await asker.redo(first, meta={"annotations": {"why": "mended"}})
    assert answer.status_code == 200, answer.text
    again = answer.json()["turn_id"]
    assert again != first
    turn = await asker.get(f"turns/{again}")
    assert (turn["state"], turn["turn_kind"], turn["target_agent"]) == ("queued", KIND, worker.json)
    assert turn["spawn_key"] == f"redo:{first}"
    assert await records(asker, again) == [("bootstrap", INPUT)]
    born = (await asker.get(f"turns/{again}/feed"))["items"][0]
    assert born["annotations"]["caller"]["annotations"] == {"why": "mended", "redo_of": first}
    assert (await asker.get(f"turns/{first}"))["outcome"] == "failed"
    assert (await worker.claim())["turn_id"] == again


async def test_a_turn_done_again_has_the_same_place_in_the_order(project: Project) -> None:
    """Its priority and keys; but it is due at once."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    order: dict[str, Any] = {"priority": 7, "serial_key": "conversation-17", "fairness_key": "tenant-a"}
    first = await asker.dispatch(worker, **order, delay_seconds=0)
    await worker.finish(await worker.claim(), "failed")
    again = (await asker.redo(first)).json()["turn_id"]
    turn = await asker.get(f"turns/{again}")
    assert {name: turn[name] for name in order} == order
    assert (await asker.redo(first)).json()["turn_id"] == again
    assert (await worker.claim())["turn_id"] == again


async def test_keep_steps_carries_what_a_durable_handler_has_kept(project: Project) -> None:
    """Steps, children, questions and answers, in order; no progress, no message, no final record."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker)
    again = (await asker.redo(first, keep_steps=True)).json()["turn_id"]
    carried = [(role, {"key": role}) for role in ("step", "children", "question", "answer")]
    assert await records(asker, again) == [("bootstrap", INPUT), *carried]
    claim = await worker.claim({"Prefer": "return=representation"})
    assert len(claim["context"]["semantic_items"]) == 5
    assert (await worker.append(claim, "next")).status_code == 200
    assert (await records(asker, again))[-1] == ("progress", "next")
    events = (await asker.get(f"turns/{again}/feed"))["items"]
    appended = [event for event in events if event["event_type"] == "turn.progress_appended"]
    told = [event["annotations"]["record_role"] for event in appended]
    assert told == ["step", "children", "question", "answer", "progress"]


async def test_a_repeat_gives_the_same_turn(project: Project, elsewhere: Project) -> None:
    """By the default key once, by other keys as often as there are keys; at two kernels at once as well."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker)
    same = Agent(elsewhere, asker.ref, asker.credential)
    answers = [await asker.redo(first), await same.redo(first)]
    assert answers[0].json() == answers[1].json()
    other = (await asker.redo(first, key="other")).json()
    assert other != answers[0].json()
    assert (await asker.redo(first, key="other")).json() == other
    assert (await asker.redo(first, key="other", keep_steps=True)).status_code == 409


async def test_only_a_closed_turn_is_done_again(project: Project) -> None:
    """409 before, 404 for one that is not there."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    refused = await asker.redo(turn_id)
    assert (refused.status_code, refused.json()["error"]) == (409, "ConflictError")
    assert "is queued" in refused.json()["message"]
    assert (await asker.redo("T-99")).status_code == 404


async def test_who_may_dispatch_may_do_again(project: Project) -> None:
    """Any agent of the project, in its own name; the target must still have the capability."""
    asker, worker, guest = [await project.agent(name) for name in ("asker", "worker", "guest")]
    first = await failed_turn(asker, worker)
    assert (await guest.redo(first)).status_code == 200
    forged = await guest.ask("POST", f"turns/{first}:redo", {"requested_by": asker.json})
    assert forged.status_code == 403
    stranger = await Project(project.kernel, project.client).agent("stranger")
    path = f"/v3r1/projects/{project.id}/turns/{first}:redo"
    away = await project.client.post(path, json={"requested_by": asker.json}, headers=stranger.headers)
    assert away.status_code == 403


@pytest.mark.parametrize("input", ["text", None, [1] * 5000, "\0"], ids=["text", "null", "long", "nul"])
async def test_any_input_comes_again_as_it_was(project: Project, input: Any) -> None:
    """Also one that the database cannot look into, and a repeat of it."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker, input)
    answers: list[httpx.Response] = [await asker.redo(first), await asker.redo(first)]
    assert answers[0].json() == answers[1].json()
    assert (await records(asker, answers[0].json()["turn_id"]))[0] == ("bootstrap", input)


async def test_a_waiting_claim_gets_the_turn_with_all_that_is_carried(project: Project) -> None:
    """Never the turn without its steps: they are there when it is."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker)
    headers = {"Prefer": "wait=30, return=representation"}
    claim = await while_waiting(
        project.kernel, lambda: worker.claim(headers), lambda: asker.redo(first, keep_steps=True)
    )
    assert len(claim["context"]["semantic_items"]) == 5


async def test_two_at_once_make_one_turn(project: Project, elsewhere: Project) -> None:
    """The second one waits for the first, and finds its turn."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    first = await failed_turn(asker, worker)
    same = Agent(elsewhere, asker.ref, asker.credential)
    answers = await asyncio.gather(asker.redo(first, keep_steps=True), same.redo(first, keep_steps=True))
    assert answers[0].json() == answers[1].json()
    assert len(await records(asker, answers[0].json()["turn_id"])) == 5
