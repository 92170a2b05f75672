"""Waiting for a turn: at a kernel that waits itself, and at one that answers at once."""

from __future__ import annotations

import anyio
import httpx
import pytest

from cgworker.cli.waiting import wait_until_closed
from cgworker.client import KernelClient
from cgworker.errors import WaitTimedOut
from cgworker.wire.refs import AgentRef, TurnRef

TURN = TurnRef(project_id="p", turn_id="T-7")


class Peer:
    """A kernel that shows a turn in these states, one a request, the last for ever.

    Args:
        waits: whether it waits for a change of state when asked to.
    """

    def __init__(self, *states: str, waits: bool) -> None:
        self._states = iter(states)
        self._state = ""
        self._waits = waits
        self.asked: list[httpx.Request] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self._state = next(self._states, self._state)
        if (
            self._waits
            and "wait" in request.headers.get("prefer", "")
            and self._state == request.url.params["state"]
        ):
            await anyio.sleep(0.2)
        return httpx.Response(200, json=self._turn())

    def _turn(self) -> dict[str, object]:
        now = "2026-11-23T12:00:00+00:00"
        return {
            "turn": {"project_id": "p", "turn_id": "T-7"},
            "target_agent": {"project_id": "p", "agent_id": "a"},
            "cause": {"kind": "external_request", "id": "r"},
            "state": self._state,
            "outcome": "succeeded" if self._state == "closed" else None,
            "stop_requested": False,
            "spawn_key": "k",
            "created_at": now,
            "updated_at": now,
        }


async def waited(
    peer: Peer, timeout_seconds: float, interval_seconds: float = 0.01
) -> tuple[str | None, int]:
    http = httpx.AsyncClient(transport=httpx.MockTransport(peer.answer))
    async with (
        http,
        KernelClient("http://kernel", agent=AgentRef(project_id="p", agent_id="a"), http=http) as kernel,
    ):
        turn = await wait_until_closed(kernel, TURN, timeout_seconds, interval_seconds)
        return turn.outcome, turn.poll_count


async def test_a_closed_turn_is_answered_at_once() -> None:
    """Not a single pause, also without any time to wait."""
    assert await waited(Peer("closed", waits=False), timeout_seconds=0) == ("succeeded", 0)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_turn_is_followed_through_its_states(waits: bool) -> None:
    """A suspended turn is not yet at its end."""
    peer = Peer("queued", "running", "running", "suspended", "running", "closed", waits=waits)
    assert await waited(peer, timeout_seconds=30) == ("succeeded", 5)


@pytest.mark.parametrize("seconds", [0, 0.3])
async def test_waiting_ends_when_its_time_is_over(seconds: float) -> None:
    """The turn is looked at once at least, and once more after the last pause."""
    peer = Peer("queued", waits=False)
    with pytest.raises(
        WaitTimedOut, match=f"T-7 did not reach a terminal wait state within {seconds} seconds"
    ):
        await waited(peer, timeout_seconds=seconds, interval_seconds=0.1)
    assert (len(peer.asked) == 1) == (seconds == 0)


async def test_a_kernel_that_answers_at_once_is_not_asked_all_the_time() -> None:
    """Between two looks at an unchanged turn lies the interval."""
    peer = Peer("queued", waits=False)
    with pytest.raises(WaitTimedOut):
        await waited(peer, timeout_seconds=0.5, interval_seconds=0.1)
    assert 2 <= len(peer.asked) <= 8


async def test_a_kernel_that_waits_is_asked_to() -> None:
    """The request names the state known, and how long the news may take."""
    peer = Peer("queued", "closed", waits=True)
    await waited(peer, timeout_seconds=10)
    assert peer.asked[1].headers["prefer"] in ("wait=9", "wait=10")
    assert peer.asked[1].url.params["state"] == "queued"
