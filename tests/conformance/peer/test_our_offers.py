"""Offers with JSON Schemas at the reference's server: taken, listed, and the agent's other metadata kept."""

from __future__ import annotations

from attrs import frozen

from cgworker import Turn, Worker
from cgworker.testing.replaying import replay
from cgworker.worker.offers import publish_offers
from tests.conformance.peer.elsewhere import OPTIONS, Desk
from tests.conformance.peer.site import PROJECT


@frozen
class Question:
    """What is asked."""

    text: str
    times: int = 1


async def answer(turn: Turn, question: Question) -> str:
    """Repeat a text."""
    await turn.record("repeating")
    return question.text * question.times


async def test_a_workers_kinds_are_offered_with_the_schema_of_their_input(desk: Desk) -> None:
    """Published twice, they are there once."""
    worker = Worker(desk.kernel, options=OPTIONS)
    worker.add("turn.conversation.v1", answer)
    for _ in range(2):
        [published] = await publish_offers(worker)
    assert (published.required_fields, published.has_capability) == (("text",), True)
    page = await desk.kernel.projections.turn_offers(PROJECT, agent_id=desk.agent.agent_id)
    [offer] = page.items
    assert (offer.turn_kind, offer.purpose) == ("turn.conversation.v1", "Repeat a text.")
    assert offer.input_contract["json_schema"]["$defs"]["Question"]["required"] == ["text"]


async def test_a_past_turn_is_done_again(desk: Desk) -> None:
    """Read from that server, and nothing written to it."""
    worker = Worker(desk.kernel, answer, options=OPTIONS)
    turn = await desk.dispatch({"text": "ha", "times": 2})
    await worker.once(wait_seconds=5)
    done = await replay(desk.kernel, turn, worker)
    assert (done.same, done.now.payload) == (True, "haha")
