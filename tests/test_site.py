"""The built site: no dead link, nothing from elsewhere, and a phone shows all of it."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.console.browser import NAMES, chromium
from tests.measured import unmeasured
from tests.pages import PAGES
from tests.reader import run

PHONE = 390
_ELSEWHERE = r"[\"']?(?:https?:)?//"
LOADS = re.compile(
    rf"<(?:script|img|iframe|source)[^>]* src={_ELSEWHERE}"
    rf"|<link[^>]* rel=[\"']?stylesheet[^>]* href={_ELSEWHERE}"
)


@pytest.fixture
def anyio_backend() -> str:
    """The browser's driver runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """The built site. mkdocs is strict: a dead link, or a page outside the contents, ends it."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
        run(build, env=unmeasured())
        yield Path(folder)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture; and nothing that would fetch a drawing program."""
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    assert len(pages) > 50
    assert [str(path) for path, html in pages.items() if LOADS.search(html)] == []
    assert [str(path) for path, html in pages.items() if 'class="mermaid"' in html] == []


def test_links_to_elsewhere_are_well_formed() -> None:
    """They are not followed: the tests use no network."""
    links = {link for page in PAGES for link in re.findall(r"\]\((https?:[^)\s]*)\)", page.read_text())}
    assert links
    assert [link for link in links if not re.fullmatch(r"[\w.-]+\.\w+(:\d+)?", urlsplit(link).netloc)] == []


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Path]:
    """The pages of the site."""
    return sorted(site.rglob("index.html"))


async def test_a_phone_shows_each_page_to_its_edge(site: Path, pages: list[Path]) -> None:
    """No page is wider than the window, and what is too wide for it scrolls by itself."""
    path = chromium()
    if path is None:
        pytest.skip(f"NO CHROMIUM: none of {', '.join(NAMES)} is on the PATH; CG_TEST_CHROMIUM names another")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = await browser.new_context(viewport={"width": PHONE, "height": 800})
        tab = await context.new_page()
        wide = []
        for page in pages:
            await tab.goto(page.as_uri(), wait_until="domcontentloaded")
            if (width := await tab.evaluate("document.documentElement.scrollWidth")) > PHONE:
                wide.append((str(page.relative_to(site)), width))
        await browser.close()
    assert wide == []
