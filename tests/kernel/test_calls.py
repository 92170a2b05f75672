"""How many of our functions a request calls, and how often its way changes the file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from cgworker.kernel.long_poll.notifier import Notifier
from tests.kernel.project import Agent, Project, token_of

AGENTS = 16


@contextmanager
def walk() -> Iterator[list[str]]:
    """Note the file of each function of the kernel and the wire types that is called in the block."""
    files: list[str] = []
    seen: dict[int, FrameType] = {}  # a coroutine that goes on is no new call

    def note(frame: FrameType, event: str, _: Any) -> None:
        _, _, file = frame.f_code.co_filename.rpartition("/cgworker/")
        if event == "call" and file.startswith(("kernel/", "wire/")) and id(frame) not in seen:
            seen[id(frame)] = frame
            files.append(file)

    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)


@pytest.fixture
async def agents(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[Agent]:
    """Agents whose credentials have just been used, at a kernel that is alone."""
    monkeypatch.setattr(Notifier, "is_heard", False)
    agents = [await project.agent(f"a{place}") for place in range(AGENTS)]
    for agent in agents:
        assert await agent.claim() is None
    return agents


async def test_a_dispatch_takes_a_short_way(agents: list[Agent]) -> None:
    await agents[0].dispatch(agents[0])
    with walk() as files:
        await agents[0].dispatch(agents[0])
    entries = [file for place, file in enumerate(files) if files[place - 1 : place] != [file]]
    assert 50 < len(files) <= 106, len(files)
    assert len(entries) <= 48, entries
    assert len(set(files)) <= 21, set(files)


async def test_a_turn_of_a_batch_makes_few_calls(agents: list[Agent]) -> None:
    """It is finished, and the next is claimed with its context."""
    for agent in agents:
        for _ in range(3):
            await agent.dispatch(agent)
    claims = await _settle(agents, [await agent.claim() for agent in agents])  # cattrs writes its functions
    with walk() as files:
        claims = await _settle(agents, claims)
    assert [claim["context"]["turn"]["state"] for claim in claims] == ["running"] * AGENTS
    assert 20 < len(files) / AGENTS <= 80, len(files) / AGENTS


async def _settle(agents: list[Agent], claims: list[Any]) -> list[Any]:
    """Finish the claims in one request; returns the next ones."""
    items = [
        {
            "claim": token_of(claim),
            "credential": agent.credential,
            "finish": {"outcome": "succeeded", "final_payload": {"answer": 42}},
            "next": {},
        }
        for agent, claim in zip(agents, claims, strict=True)
    ]
    answers = await agents[0].post("turns:settle-many", {"items": items}, {"Prefer": "return=representation"})
    return [item["next"]["body"] for item in answers["items"]]
