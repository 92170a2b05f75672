"""The console at the reference's server: each page opens, and says in words what that server lacks."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from cgworker import Turn, Worker
from cgworker.console import console_app
from tests.conformance.peer.elsewhere import OPTIONS, Desk
from tests.console.serving import plot_numbers
from tests.journeys.conftest import working

PAGES = ("/", "/agents", "/turns", "/questions", "/schedules", "/dispatch")
ORIGIN = {"origin": "http://console"}


@pytest.fixture
async def browser(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a window, at a console of the desk's agent."""
    app = console_app(desk.kernel)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://console", headers=ORIGIN) as browser:
        yield browser
    await app.state.console.stop()


async def page(browser: httpx.AsyncClient, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = await browser.get(path)
    assert answer.status_code == status, (path, answer.text)
    return html.unescape(answer.text)


async def csrf(browser: httpx.AsyncClient, path: str) -> dict[str, str]:
    """The token of a page's forms."""
    text = await page(browser, path)
    return {"csrf": text.partition('name="csrf" value="')[2].partition('"')[0]}


async def test_each_page_opens_there_and_says_what_is_missing(desk: Desk, browser: httpx.AsyncClient) -> None:
    """Schedules as a whole, messages and doing again when they are asked for; the rest works."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def ask(turn: Turn) -> Any:
        return await turn.ask(bool, "May I?", key="may")

    turn = await desk.dispatch({"n": 1})
    path = f"/turns/{turn.turn_id}"
    async with working(worker):
        await desk.state(turn, "suspended")
        for each in (*PAGES, path):
            text = await page(browser, each)
            assert "does not answer" not in text.partition('id="trouble"')[2][:300] or "hidden" in text, each
        assert "lacks this: schedules" in await page(browser, "/schedules")
        assert turn.turn_id in await page(browser, "/turns")
        assert "May I?" in await page(browser, "/questions")
        told = await browser.post(f"{path}/tell", data={**await csrf(browser, path), "message": "hi"})
        assert told.status_code == 501
        assert "lacks this: telling turns something" in html.unescape(told.text)
        question = f"/questions/{turn.turn_id}"
        form = {**await csrf(browser, f"{question}?key=may"), "key": "may", "v": "true"}
        assert (await browser.post(f"{question}/answer", data=form)).status_code == 303
        assert (await desk.closed(turn)).final_payload is True
        again = await browser.post(f"{path}/redo", data=await csrf(browser, f"{path}/redo"))
        assert "lacks this: doing closed turns again" in html.unescape(again.text)
        with anyio.fail_after(60):
            while "succeeded" not in await page(browser, path):  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.1)


async def test_a_turn_is_dispatched_there_by_a_form_and_counted(
    desk: Desk, browser: httpx.AsyncClient
) -> None:
    """The plots poll what that server tells."""
    await page(browser, "/")
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def echo(turn: Turn) -> Any:
        return turn.input

    agent = desk.agent.agent_id
    form = f"/dispatch/{agent}/turn.conversation.v1"
    typed = {**await csrf(browser, form), "key": f"console-{agent}", "v": '{"n": 7}'}
    async with working(worker):
        sent = await browser.post(form, data=typed)
        assert sent.status_code == 303, html.unescape(sent.text)
        with anyio.fail_after(60):
            while '"n": 7' not in await page(browser, sent.headers["location"]):  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.1)
            while not sum(plot_numbers(await page(browser, "/?window=3600"))["succeeded"]):  # noqa: ASYNC110  # as above
                await anyio.sleep(0.2)
