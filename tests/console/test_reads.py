"""What tabs share: one read of the kernel for all of them, and never an old one."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import anyio
import httpx
import pytest

from cgworker.console import console_app
from cgworker.testing import LocalKernel
from cgworker.wire.refs import AgentRef
from tests.console.pretender import console_of


@pytest.mark.parametrize(
    "page", ["/", "/agents", "/turns", "/questions", "/schedules", "/dispatch", "/turns/T-1"]
)
async def test_twenty_tabs_cost_the_kernel_what_one_does(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change all tabs ask for the page; the kernel is asked as for one."""
    asked: Counter[str] = Counter()
    handle = httpx.MockTransport.handle_async_request

    async def count(transport: httpx.MockTransport, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/feed"):
            asked[request.url.path] += 1
        await asyncio.sleep(0.001)
        return await handle(transport, request)

    monkeypatch.setattr(httpx.MockTransport, "handle_async_request", count)
    async with console_of("x") as browser:
        await browser.get(page)
        feed = browser.app.state.console.feed  # type: ignore[attr-defined]
        counts = []
        for tabs in (1, 20):
            asked.clear()
            feed.notify()
            answers = await asyncio.gather(*(browser.get(page) for _ in range(tabs)))
            assert {answer.status_code for answer in answers} == {200}
            counts.append(dict(asked))
        assert counts[0] == counts[1]


async def test_a_page_that_a_change_loads_shows_the_change(kernel: LocalKernel) -> None:
    """However short the time since another tab has read it."""
    await kernel.agent("a")
    await kernel.dispatch("a", {})
    app = console_app(await kernel.agent("a"))
    transport: Any = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as browser:
        feed = app.state.console.feed
        await browser.get("/")
        with anyio.fail_after(60):
            while feed.position is None:  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.01)
        for count in (2, 3):
            subscription = feed.subscribe()
            await browser.get("/")
            await kernel.dispatch("a", {})
            assert await subscription.wait(20)
            assert f"<b>{count}</b> queued" in (await browser.get("/")).text
            feed.unsubscribe(subscription)
    await app.state.console.stop()


async def test_an_agent_that_holds_a_turn_is_seen_now(kernel: LocalKernel) -> None:
    """Also one whose worker announces no presence."""
    worker = await kernel.agent("a")
    await kernel.dispatch("a", {})
    app = console_app(await kernel.agent("b"))
    transport: Any = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as browser:
        for seen in ("never", "now"):
            page = (await browser.get("/agents")).text
            own = page[page.index(">a</a>") :]
            assert re.findall(">(never|now)<", own)[0] == seen
            await worker.claims.claim(AgentRef(project_id=kernel.project_id, agent_id="a"))
            app.state.console.feed.notify()
    await app.state.console.stop()
