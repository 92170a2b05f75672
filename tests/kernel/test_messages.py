"""Telling a turn something, and waiting for its records (difference 32)."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernel.project import Agent, Project, end_lease, released_at_once
from tests.kernel.test_long_poll import while_waiting

WAIT = {"Prefer": "wait=30"}


async def _messages(agent: Agent, turn_id: str) -> list[Any]:
    """The messages of a turn, as its context has them."""
    context = await agent.get(f"turns/{turn_id}/context")
    return [
        item["content"]["cards"][0]["content"]["data"]
        for item in context["semantic_items"]
        if item["record"]["record_role"] == "message"
    ]


async def _events(agent: Agent, turn_id: str) -> list[Any]:
    return list((await agent.get(f"turns/{turn_id}/feed"))["items"])


async def test_a_message_is_a_record_of_the_turn_in_every_state_but_closed(project: Project) -> None:
    """Its payload says who sent it; once the turn is closed there is a 409 and no record."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    assert (await asker.tell(turn_id, "queued")).status_code == 200
    claim = await worker.claim()
    assert (await asker.tell(turn_id, {"n": 1.50})).status_code == 200
    await worker.suspend(claim)
    assert (await worker.tell(turn_id, None, key="k")).status_code == 200
    await worker.resume(turn_id)
    await worker.finish(await worker.claim())
    refused = await asker.tell(turn_id, "late")
    assert refused.status_code == 409
    assert refused.json() == {"error": "ConflictError", "message": "a closed turn cannot be told anything"}
    assert await _messages(asker, turn_id) == [
        {"from": "asker", "message": "queued", "key": None},
        {"from": "asker", "message": {"n": 1.5}, "key": None},
        {"from": "worker", "message": None, "key": "k"},
    ]


async def test_the_answer_names_the_content_and_the_feed_the_sender(project: Project) -> None:
    """`turn.told`, by the agent that said it, with its remarks under `caller`."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    box = (await asker.tell(turn_id, "hello", meta={"note": "by the way"})).json()
    context = await asker.get(f"turns/{turn_id}/context")
    assert context["semantic_items"][1]["content"]["ref"] == box
    told = (await _events(asker, turn_id))[-1]
    assert (told["event_type"], told["actor_kind"], told["actor_id"]) == ("turn.told", "agent", "asker")
    assert told["payload_ref"] == box
    assert told["annotations"]["record_role"] == "message"
    assert told["annotations"]["caller"] == {"note": "by the way"}


async def test_the_requester_the_own_agent_and_holders_of_the_grant_may(project: Project) -> None:
    """Anybody else gets a fencing error, whatever the turn's state; an unknown turn is not found."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    guest, master = await project.agent("guest"), await project.agent("master", grants=("turn.tell.any",))
    turn_id = await asker.dispatch(worker)
    for agent in (asker, worker, master):
        assert (await agent.tell(turn_id, agent.ref.agent_id)).status_code == 200
    for _ in range(2):
        refused = await guest.tell(turn_id, "me too")
        assert (refused.status_code, refused.json()["error"]) == (409, "FencingError")
        if claim := await worker.claim():
            await worker.finish(claim)
    assert [each["from"] for each in await _messages(asker, turn_id)] == ["asker", "worker", "master"]
    assert (await asker.tell("T-999", "hello")).status_code == 404


async def test_nobody_speaks_in_the_name_of_another(project: Project) -> None:
    """The caller is who the body says, or is refused."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    forged = {"requested_by": asker.json, "message": "hello"}
    assert (await worker.ask("POST", f"turns/{turn_id}:tell", forged)).status_code == 403


async def test_a_repeat_by_key_changes_nothing(project: Project) -> None:
    """Also after the turn's end. Another message under the key is a 409; each sender has keys of its own."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    first = await asker.tell(turn_id, {"a": 1, "b": 2}, key="m1")
    assert (await asker.tell(turn_id, {"b": 2, "a": 1}, key="m1")).json() == first.json()
    assert (await worker.tell(turn_id, "mine", key="m1")).json() != first.json()
    assert (await asker.tell(turn_id, "other", key="m1")).status_code == 409
    await worker.finish(await worker.claim())
    assert (await asker.tell(turn_id, {"a": 1, "b": 2}, key="m1")).json() == first.json()
    assert len(await _messages(asker, turn_id)) == 2
    assert [event["event_type"] for event in await _events(asker, turn_id)].count("turn.told") == 2


async def test_a_message_may_hold_what_the_database_cannot_look_into(project: Project) -> None:
    """A NUL character in one message keeps no later one from being told, or found again."""
    asker = await project.agent("asker")
    turn_id = await asker.dispatch(asker)
    first = await asker.tell(turn_id, "\0", key="m1")
    assert (await asker.tell(turn_id, "\0", key="m1")).json() == first.json()
    assert (await asker.tell(turn_id, "next", key="m2")).status_code == 200
    assert [each["message"] for each in await _messages(asker, turn_id)] == ["\0", "next"]


async def test_a_large_message_is_told_once_and_kept_as_it_was_sent(project: Project) -> None:
    """Parsed beside the event loop; equal numbers in other forms are the same message."""
    asker = await project.agent("asker")
    turn_id = await asker.dispatch(asker)
    first = await asker.tell(turn_id, {"text": "x" * 3_000_000, "n": 1.5}, key="m1")
    again = await asker.tell(turn_id, {"n": 15e-1, "text": "x" * 3_000_000}, key="m1")
    assert (again.status_code, again.json()) == (200, first.json())
    [told] = await _messages(asker, turn_id)
    assert (len(told["message"]["text"]), told["message"]["n"]) == (3_000_000, 1.5)


async def test_repeats_at_once_add_one_message(project: Project, elsewhere: Project) -> None:
    """Two kernels that both have the request take turns at the turn's row."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    same = Agent(elsewhere, asker.ref, asker.credential)
    turn_id = await asker.dispatch(worker)
    answers = await released_at_once(
        project, lambda: asker.tell(turn_id, 1, key="m"), lambda: same.tell(turn_id, 1, key="m")
    )
    assert answers[0].json() == answers[1].json()
    assert len(await _messages(asker, turn_id)) == 1


async def test_a_key_is_one_to_255_characters_and_a_message_is_required(project: Project) -> None:
    """422 with the place; null is a message."""
    asker = await project.agent("asker")
    turn_id = await asker.dispatch(asker)
    for key in ("", "k" * 256):
        refused = await asker.tell(turn_id, 1, key=key)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", "key"]
    missing = await asker.ask("POST", f"turns/{turn_id}:tell", {"requested_by": asker.json})
    assert missing.json()["detail"][0]["loc"] == ["body", "message"]
    assert (await asker.tell(turn_id, None)).status_code == 200


async def test_a_message_and_an_append_at_once_get_numbers_of_their_own(project: Project) -> None:
    """The turn's row counts both."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    claim = await worker.claim()
    answers = await released_at_once(
        project, lambda: asker.tell(turn_id, "m"), lambda: worker.append(claim, "r")
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    context = await asker.get(f"turns/{turn_id}/context")
    assert [item["record"]["turn_seq"] for item in context["semantic_items"]] == [1, 2, 3]


async def test_a_message_does_not_touch_the_claim(project: Project) -> None:
    """The lease stays as it is: a turn whose lease has ended is given back with the message in it."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    first = await worker.claim()
    await end_lease(project, turn_id)
    assert (await asker.tell(turn_id, "wait")).status_code == 200
    assert (await worker.renew(first)).status_code == 409
    again = await worker.claim({"Prefer": "return=representation"})
    assert again["context"]["semantic_items"][-1]["record"]["record_role"] == "message"


async def test_a_renewal_counts_the_records(project: Project) -> None:
    """`record_count` is the number of the last record, so a worker sees that there is news."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    turn_id = await asker.dispatch(worker)
    claim = await worker.claim()
    assert (await worker.renew(claim)).json()["record_count"] == 1
    await asker.tell(turn_id, "hello")
    assert (await worker.renew(claim)).json()["record_count"] == 2


async def test_a_context_page_waits_for_the_record_after_the_last_known(
    project: Project, elsewhere: Project
) -> None:
    """With Prefer: wait; a message at another kernel ends the wait, and so does the turn's end."""
    asker, worker = await project.agent("asker"), await project.agent("worker")
    far = Agent(elsewhere, asker.ref, asker.credential)
    turn_id = await asker.dispatch(worker)
    claim = await worker.claim()

    async def waiting(after: int) -> Any:
        return (await asker.ask("GET", f"turns/{turn_id}/context", headers=WAIT, after_turn_seq=after)).json()

    at_once = await asker.ask("GET", f"turns/{turn_id}/context", headers=WAIT)
    assert at_once.headers["preference-applied"] == "wait=30"
    told = await while_waiting(project.kernel, lambda: waiting(1), lambda: far.tell(turn_id, "hello"))
    assert [item["record"]["turn_seq"] for item in told["semantic_items"]] == [2]
    ended = await while_waiting(project.kernel, lambda: waiting(2), lambda: worker.finish(claim))
    assert (ended["turn"]["state"], ended["semantic_items"]) == ("closed", [])


TELLS = st.tuples(st.sampled_from(["asker", "worker"]), st.sampled_from([None, "k1", "k2"]))
MOVES = st.sampled_from(["claim", "suspend", "resume", "end lease", "append"])


@given(moves=st.lists(TELLS | MOVES, min_size=1, max_size=20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_claim_sees_all_messages_in_order(
    project: Project, moves: list[tuple[str, str | None] | str]
) -> None:
    """Whatever happens to the turn in between: once each, and a key of a sender stands for one message."""
    own = Project(project.kernel, project.client)
    agents = {name: await own.agent(name) for name in ("asker", "worker")}
    worker, claim = agents["worker"], None
    turn_id = await agents["asker"].dispatch(worker)
    told: list[dict[str, Any]] = []
    for number, move in enumerate(moves):
        match move:
            case (sender, key):
                known = [each for each in told if key and (each["from"], each["key"]) == (sender, key)]
                message = known[0]["message"] if known else number
                assert (await agents[sender].tell(turn_id, message, key=key)).status_code == 200
                told += [] if known else [{"from": sender, "message": message, "key": key}]
            case "claim":
                claim = await worker.claim({"Prefer": "return=representation"}) or claim
            case "suspend" if claim:
                await worker.suspend(claim)
            case "resume":
                await worker.resume(turn_id)
            case "end lease":
                await end_lease(own, turn_id)
            case "append" if claim:
                await worker.append(claim, number)
        assert await _messages(worker, turn_id) == told
    if claim := await worker.claim({"Prefer": "return=representation"}):
        roles = [item["record"]["record_role"] for item in claim["context"]["semantic_items"]]
        assert roles.count("message") == len(told)
