"""Each page in a real Chromium: wide and narrow, light and dark, by keyboard, and for axe.

With CG_TEST_SCREENSHOTS=docs/how-to/console the test writes the pictures of the docs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.console.sample import Sample
from tests.console.serving import Browser

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PAGES = (
    "overview",
    "agents",
    "turns",
    "turn",
    "questions",
    "question",
    "schedules",
    "dispatch",
    "form",
    "redo",
)
TITLES = {"turn": "Turn T-", "question": "Question", "form": "Dispatch", "redo": "Do T-"}


def path_of(page: str, sample: Sample) -> str:
    """The path of a page in the sample project."""
    turns = sample.turns
    special = {
        "overview": "/",
        "turn": f"/turns/{turns['team']}",
        "question": f"/questions/{turns['ask']}?key=approval",
        "form": "/dispatch/writer/turn.report.v1",
        "redo": f"/turns/{turns['failed']}/redo",
    }
    return special.get(page, f"/{page}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_each_page_can_be_used_by_everybody(
    width: int, scheme: str, sample: Sample, link: str, browser: Browser
) -> None:
    """It has its title, fits the window, breaks no rule of axe, and its policy blocks nothing of its own."""
    await sample.fill()
    await sample.settled()
    tab = await browser.signed_in(link, width=width, scheme=scheme)
    for page in PAGES:
        await tab.goto(link.split("/login")[0] + path_of(page, sample))
        await tab.wait_for_load_state("load")
        if page == "overview":
            await tab.locator(".u-wrap").nth(3).wait_for()
            await tab.get_by_text("reading back").first.wait_for(state="hidden")
        assert (await tab.title()).startswith(TITLES.get(page, page.title()))
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width, page
        await tab.evaluate(AXE.read_text())
        found = await tab.evaluate("axe.run({resultTypes: ['violations']})")
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == [], page
        if (folder := os.environ.get("CG_TEST_SCREENSHOTS")) and (width, scheme) == (1280, "light"):
            await tab.screenshot(path=Path(folder) / f"{page}.png")
    assert browser.complaints == []


async def test_the_keyboard_is_enough(sample: Sample, link: str, browser: Browser) -> None:
    """From the skip link by Tab to a turn, with a visible focus all the way."""
    await sample.fill()
    tab = await browser.signed_in(link)
    await tab.goto(link.split("/login")[0] + "/turns")
    await tab.locator("tbody a").first.wait_for()
    await tab.keyboard.press("Tab")
    assert await tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    await tab.keyboard.press("Enter")
    for _ in range(12):
        await tab.keyboard.press("Tab")
        outline = await tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        if await tab.evaluate("document.activeElement.matches('tbody th a')"):
            break
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/turns/T-*")
    assert browser.complaints == []
