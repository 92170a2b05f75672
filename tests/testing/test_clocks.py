"""Virtual time: an hour passes at once, on both event loops."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from cgworker import Stopped, Turn
from cgworker.testing import play, virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_time(request.param)


async def test_a_handler_that_takes_an_hour_is_played_at_once() -> None:
    """The lease does not notice."""

    async def slow(turn: Turn) -> str:
        await anyio.sleep(3600)
        await turn.record("an hour later")
        return "done"

    began = time.monotonic()
    assert (await play(slow)).payload == "done"
    assert time.monotonic() - began < 3600


async def test_a_stop_comes_when_the_script_says() -> None:
    """To the second."""
    ended_at = []

    async def slow(_: Turn) -> None:
        began = anyio.current_time()
        try:
            await anyio.sleep(3600)
        finally:
            ended_at.append(anyio.current_time() - began)

    played = await play(slow, stop_after=1800)
    assert isinstance(played.outcome, Stopped)
    assert ended_at == [pytest.approx(1800, abs=1)]
