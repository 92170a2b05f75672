"""The console below a path of an application of one's own, behind its login."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.console import console_app
from cgworker.kernel.server import bind
from tests.console.sample import APPROVAL, REPORT, Sample
from tests.console.serving import Browser

PREFIX = "/tools/console"
LOGIN = {"name": "login", "value": "ok", "path": "/"}


class Login:
    """The login of the application around: a cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        is_known = b"login=ok" in headers.get(b"cookie", b"")
        await (self._app if is_known else PlainTextResponse("log in first", 401))(scope, receive, send)


def application(sample: Sample) -> tuple[Starlette, Starlette]:
    """The application, and the console in it."""
    console = console_app(sample.person)
    return Starlette(routes=[Mount(PREFIX, console)], middleware=[Middleware(Login)]), console


@pytest.fixture
async def site(sample: Sample) -> AsyncIterator[str]:
    """The address of the application, served."""
    async with served(sample) as url:
        yield url


@asynccontextmanager
async def served(sample: Sample) -> AsyncIterator[str]:
    """Serve the application while the block runs."""
    app, console = application(sample)
    with bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
    await console.state.console.stop()


async def test_every_link_of_a_mounted_console_stays_below_its_path(sample: Sample) -> None:
    """Links, forms, scripts and the stream of events: followed from the first page to the last."""
    await sample.fill()
    await sample.settled()
    app, console = application(sample)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as browser:
        assert (await browser.get(PREFIX + "/")).status_code == 401
        browser.cookies.set("login", "ok")
        wanted, seen = [PREFIX + "/"], set[str]()
        while wanted:
            path = wanted.pop()
            seen.add(path)
            answer = await browser.get(path)
            assert answer.status_code in (200, 303), path
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            if "text/html" in answer.headers.get("content-type", ""):
                named = re.findall(r'(?:href|src|action|hx-get|data-\w+)="(/[^"]*)"', answer.text)
                assert [each for each in named if not each.startswith(PREFIX + "/")] == [], path
                pages = (each for each in named if "/live" not in each and not is_write(each))
                wanted += set(pages) - seen - set(wanted)
        assert {PREFIX + end for end in ("/agents", "/schedules", "/static/console.js")} <= seen
    await console.state.console.stop()


async def test_a_trigger_that_was_sent_twice_dispatches_one_turn(sample: Sample) -> None:
    """A double click is one trigger; the page loaded again gives another."""
    await sample.fill()
    app, console = application(sample)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as browser:
        browser.cookies.set("login", "ok")

        async def form() -> dict[str, str]:
            page = (await browser.get(PREFIX + "/schedules")).text
            own = page[page.index("/trigger") :]
            found = re.findall(r'name="(\w+)" value="([^"]*)"', own[: own.index("</form>")])
            return dict(found)

        async def trigger(sent: dict[str, str]) -> str:
            path = f"{PREFIX}/schedules/nightly-report/trigger"
            answer = await browser.post(path, data=sent, headers={"Origin": "http://site"})
            assert answer.status_code == 303
            return answer.headers["location"]

        first = await form()
        turn = await trigger(first)
        assert await trigger(first) == turn
        assert await trigger(await form()) != turn
    await console.state.console.stop()


def is_write(path: str) -> bool:
    """Whether the path takes forms only."""
    return path.endswith(("/trigger", "/pause", "/unpause", "/resume", "/tell", "/answer", "/decline"))


async def test_a_mounted_console_is_live_and_its_forms_work(
    sample: Sample, site: str, browser: Browser
) -> None:
    """A turn by the form of its offer; a question that shows up by itself; its answer."""
    page = await browser.page()
    assert (await page.goto(f"{site}{PREFIX}/")).status == 401
    await page.context.add_cookies([{**LOGIN, "domain": "127.0.0.1"}])
    await page.goto(f"{site}{PREFIX}/")
    await page.locator(".u-wrap").nth(3).wait_for()
    await page.get_by_role("link", name="Dispatch").click()
    await page.get_by_role("link", name=f"writer: {REPORT}").click()
    await page.get_by_label("subject").fill("Fjords")
    await page.get_by_label("pages", exact=True).fill("3")
    await page.get_by_role("button", name="Dispatch", exact=True).last.click()
    await page.wait_for_url(f"{site}{PREFIX}/turns/T-*")
    await page.locator(".state .badge", has_text="succeeded").wait_for()
    await page.get_by_role("link", name="Questions").click()
    await page.get_by_text("No turn asks anything").wait_for()
    await sample.dispatch(APPROVAL, {"subject": "Fjords"}, "ask")
    await page.get_by_role("link", name="Answer or decline").click()
    await page.get_by_role("button", name="Decline").click()
    await page.locator(".state .badge", has_text="failed").wait_for()
    assert page.url.startswith(f"{site}{PREFIX}/turns/")
    assert browser.complaints == []
