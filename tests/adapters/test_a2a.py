"""An A2A agent as a handler: the SDK's client against a scripted agent on loopback."""

from __future__ import annotations

from typing import Any

from cgworker import AdapterHandler, Succeeded
from cgworker.adapters.a2a import A2AAgent
from cgworker.testing import play
from tests.adapters.a2a_agent import COMPLETED, Says, Streams, agent


def at(url: str, **how: Any) -> AdapterHandler[Any]:
    return AdapterHandler(A2AAgent(url, poll_seconds=0.05, **how))


async def test_a_turn_is_forwarded_and_what_the_agent_does_is_recorded() -> None:
    """What it says becomes records, its text few records of a stream, its artifacts the deliverable."""
    with agent([Says("Reading."), Streams(("Hel", "lo")), COMPLETED]) as remote:
        played = await play(at(remote.url), {"text": "Hi"})
    assert played.outcome == Succeeded({"text": "Hello"})
    assert [said for _, said in remote.told] == ["Hi"]
    progress = [record.payload for record in played.records if record.role == "progress"]
    assert progress == [{"agent_says": {"text": "Reading."}}, {"index": 0, "text": "Hello"}]
