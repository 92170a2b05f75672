"""Text of agents on every page: it is text, whatever it says."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.console.pretender import PAGES, console_of

SCRIPT = '"></textarea></pre><script>alert(1)</script><img src=x onerror=alert(1)><!-- {{ 7*7 }}'
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x1b]")


class Seen(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if tag == "script":
            self.scripts.append(given.get("src") or "inline")
        self.links += [given[name] or "" for name in ("href", "src", "action") if name in given]


async def seen_of(text: str, page: str) -> tuple[int, str]:
    async with console_of(text) as browser:
        answer = await browser.get(page, follow_redirects=False)
        return answer.status_code, answer.text


@settings(max_examples=12)
@given(text=TEXTS)
@example(text=SCRIPT)
@example(text="\u202egnp.exe\u2066\x1b[2J")
@pytest.mark.parametrize("page", PAGES)
def test_no_text_of_an_agent_becomes_markup(page: str, text: str) -> None:
    """Neither a script, nor a handler, nor a style, nor a link elsewhere; direction marks are spelled out."""
    status, html = asyncio.run(seen_of(text, page))
    assert status < 500
    assert BIDI.search(html) is None
    if html.startswith("<!doctype"):
        seen = Seen()
        seen.feed(html)
        assert all(src.startswith("/static/") for src in seen.scripts)
        assert not {name for name in seen.attributes if name.startswith("on") or name == "style"}
        assert not {"img", "iframe", "object", "style"} & set(seen.tags)
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in seen.links)


@pytest.mark.parametrize("page", PAGES)
def test_a_megabyte_is_cut(page: str) -> None:
    """A page stays a page, with how much there was; only the link to one record gives all of it."""
    _, html = asyncio.run(seen_of("x" * 1_000_000, page))
    size = len(html)
    assert size < (3_000_000 if "/records/" in page else 400_000)
