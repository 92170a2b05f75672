"""A person who has never seen the console asks an agent, watches it, answers its question and stops another.

With CG_TEST_SCREENSHOTS=docs/how-to/console the test makes the moving picture of the docs.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tests.console.sample import APPROVAL, Sample
from tests.console.serving import Browser

_SIZE = {"x": 0, "y": 0, "width": 960, "height": 600}
_FRAME_MS = 1800
_COLORS = 64


class Film:
    """Pictures of a page, one after the other."""

    def __init__(self) -> None:
        self._folder = os.environ.get("CG_TEST_SCREENSHOTS")
        self._frames: list[Image.Image] = []

    async def take(self, page: Any) -> None:
        """Take a picture, if they are wanted."""
        if self._folder:
            picture = Image.open(BytesIO(await page.screenshot(clip=_SIZE, animations="disabled")))
            self._frames.append(picture.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE))

    def save(self, name: str) -> None:
        """Write them as one animated PNG."""
        if self._folder:
            first, *others = self._frames
            path = Path(self._folder) / name
            first.save(path, save_all=True, append_images=others, duration=_FRAME_MS, loop=0, optimize=True)


async def test_somebody_asks_watches_answers_and_stops(sample: Sample, link: str, browser: Browser) -> None:
    """Each step is one click from the step before, or a form of few fields."""
    film = Film()
    page = await browser.signed_in(link, width=960)
    home = link.split("/login")[0]
    await sample.fill()
    await sample.settled()
    await page.locator(".counts", has_text="1 running").wait_for()
    await page.locator("[data-summary=closed]", has_text="5 succeeded").wait_for()
    await film.take(page)

    await page.get_by_role("link", name="Dispatch").click()
    await page.get_by_role("link", name=APPROVAL).first.click()
    await page.get_by_label("subject").fill("Fjords")
    await film.take(page)
    await page.get_by_role("button", name="Dispatch").click()
    await page.wait_for_url("**/turns/T-*")
    await page.locator(".state .badge", has_text="suspended").wait_for()
    await film.take(page)

    await page.get_by_role("link", name="Answer", exact=True).click()
    await page.get_by_role("link", name="Answer or decline").click()
    await page.get_by_label("approved").select_option("yes")
    await page.get_by_label("stars").fill("5")
    await page.get_by_label("size").select_option(label="large")
    await page.get_by_label("city").fill("Bodø")
    await film.take(page)
    await page.get_by_role("button", name="Answer", exact=True).last.click()
    await page.locator(".state .badge", has_text="succeeded").wait_for()
    await film.take(page)

    await page.goto(f"{home}/turns/{sample.turns['writing']}")
    await page.get_by_text("Once upon a time").first.wait_for()
    await film.take(page)
    await page.get_by_role("link", name="Stop").click()
    await page.get_by_role("button", name="Stop").click()
    await page.locator(".state .badge", has_text="stopped").wait_for()
    await film.take(page)
    film.save("story.png")
    assert browser.complaints == []
