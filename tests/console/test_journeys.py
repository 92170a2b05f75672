"""Journeys through the console in a real Chromium."""

from __future__ import annotations

import re

from tests.console.sample import REPORT, WRITING, Sample
from tests.console.serving import Browser


def at(link: str, path: str) -> str:
    """The address of a view of the console that a link opens."""
    return link.split("/login")[0] + path


async def test_a_link_opens_the_console_once(link: str, browser: Browser) -> None:
    """A second browser with the same link is turned away, and so is one without a link."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    assert await page.title() == f"Turns · {await page.locator('.brand').inner_text()} · CommonGround"
    other = await browser.page()
    assert (await other.goto(link)).status == 403
    assert (await other.goto(at(link, "/turns"))).status == 401
    assert browser.complaints == []


async def test_the_list_of_turns_moves_by_itself(sample: Sample, link: str, browser: Browser) -> None:
    """A turn that is dispatched elsewhere shows up, and then its outcome, without loading the page again."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    await page.get_by_text("No turn matches").wait_for()
    turn_id = await sample.dispatch(REPORT, {"subject": "Fjords", "pages": 3})
    await page.locator(f"#{turn_id} .badge", has_text="succeeded").wait_for()
    assert browser.complaints == []


async def test_a_turns_text_comes_as_it_is_written(sample: Sample, link: str, browser: Browser) -> None:
    """The page of a turn shows what its handler streams, then its result."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.locator(".stream", has_text="a queue met a worker").wait_for()
    await page.get_by_role("textbox", name="Tell it something").fill("half a mess")
    sample.go_on.set()
    await page.locator(".stream", has_text="never repeated any work").wait_for()
    await page.get_by_role("heading", name="Result").wait_for()
    typed = await page.get_by_role("textbox", name="Tell it something").input_value()
    assert typed == "half a mess"
    assert browser.complaints == []


async def test_stop_is_asked_first_and_then_stops(sample: Sample, link: str, browser: Browser) -> None:
    """The button leads to a question; its answer stops the running turn."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.get_by_role("link", name="Stop").click()
    await page.get_by_role("button", name="Stop").click()
    await page.locator(".state .badge", has_text=re.compile("stopped")).wait_for()
    assert browser.complaints == []
