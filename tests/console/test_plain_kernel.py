"""Lists that go on, and the console at a kernel without our additions, as the reference's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cgworker.console import console_app
from cgworker.errors import KernelLacks
from cgworker.testing import LocalKernel
from tests.console.sample import Sample

PAGES = ("/", "/agents", "/turns", "/questions", "/schedules", "/dispatch", "/turns/T-1")


async def test_a_list_goes_on_where_a_page_ended(kernel: LocalKernel) -> None:
    """Turns by number, agents by name: each once, and none left out."""
    for name in ("a", "b", "c", "d"):
        await kernel.agent(name)
    turns = [(await kernel.dispatch("a", {"n": number})).turn_id for number in range(5)]
    lists, project = (await kernel.agent("a")).projections, kernel.project_id
    seen: list[str] = []
    before: int | None = None
    while (page := await lists.turns(project, before_turn_seq=before, limit=2)).items:
        seen += [entry.turn_id for entry in page.items]
        before = page.items[-1].project_turn_seq
    assert seen == turns[::-1]
    first = await lists.agents(project, limit=2)
    rest = await lists.agents(project, after_agent_id=first.items[-1].agent_id, limit=10)
    assert [entry.agent_id for entry in (*first.items, *rest.items)] == ["a", "b", "c", "d", "requester"]


async def test_a_kernel_that_ignores_where_a_list_begins_is_found_out(kernel: LocalKernel) -> None:
    """Or a reader that pages would go round in a circle."""
    for number in range(3):
        await kernel.dispatch("a", {"n": number}) if number else await kernel.agent("a")
    kernel.faults.ignore_preferences()
    lists = (await kernel.agent("a")).projections
    with pytest.raises(KernelLacks):
        await lists.turns(kernel.project_id, before_turn_seq=2)
    with pytest.raises(KernelLacks):
        await lists.agents(kernel.project_id, after_agent_id="a")


async def test_each_page_shows_what_a_plain_kernel_has(sample: Sample) -> None:
    """What it lacks is said on the page, whose other parts are there."""
    await sample.dispatch("turn.approval.v1", {"subject": "Fjords"}, "ask")
    sample.kernel.faults.ignore_preferences()
    app = console_app(sample.person)
    transport: Any = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as browser:
        for page in PAGES:
            assert (await browser.get(page)).status_code == 200, page
        assert "lacks this: schedules" in (await browser.get("/schedules")).text
    await app.state.console.stop()
