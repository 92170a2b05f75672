"""Claims: one turn, one holder, one slot."""

from __future__ import annotations

from tests.kernel.project import Project


async def test_a_turn_goes_from_dispatch_to_closed(project: Project) -> None:
    """Dispatch, claim and finish are the whole life of a simple turn."""
    requester, worker = await project.agent("requester"), await project.agent("worker")
    turn_id = await requester.dispatch(worker, input={"n": 1})
    claim = await worker.claim({"Prefer": "return=representation"})
    assert claim["turn_id"] == turn_id
    assert claim["context"]["semantic_items"][0]["content"]["cards"][0]["content"]["data"] == {"n": 1}
    assert (await worker.finish(claim, final_payload={"n": 2})).json() == {"ok": True}
    turn = await requester.get(f"turns/{turn_id}")
    assert (turn["state"], turn["outcome"], turn["final_payload"]) == ("closed", "succeeded", {"n": 2})
    feed = await requester.get(f"turns/{turn_id}/feed")
    assert [event["event_type"] for event in feed["items"]] == [
        "turn.spawned",
        "turn.bootstrap_recorded",
        "turn.claimed",
        "turn.progress_appended",
        "turn.finished",
    ]
