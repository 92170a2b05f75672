"""Sections of the protocol's pages that code and docs cite: each is there, and is cited in one form."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))  # which is no package: its programs are run by themselves

import citations  # noqa: E402

OTHER_FORMS = re.compile(r"\b\w+\.md (?:section )?\d|\b(?:architecture|decisions?)\s+\d", re.IGNORECASE)


def sources() -> Iterator[Path]:
    """Every file that a maintainer writes."""
    for folder in ("src", "tests", "docs", "examples", "benchmarks"):
        found = (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".md"))
        yield from (path for path in found if "recordings" not in path.parts)
    yield from ROOT.glob("*.md")


def test_every_section_that_is_cited_exists() -> None:
    """A reader who looks it up finds it."""
    cited = {
        (str(path.relative_to(ROOT)), one)
        for path in sources()
        for one in citations.citations(path.read_text())
    }
    assert len(cited) > 100
    assert [(path, str(one)) for path, one in cited if one.section not in citations.sections(one.page)] == []


def test_no_section_is_cited_in_another_form() -> None:
    """Nobody has to know what the pages were called elsewhere."""
    here = Path(__file__)
    texts = {path: path.read_text() for path in sources() if path != here}
    found = [
        (str(path.relative_to(ROOT)), form)
        for path, text in texts.items()
        for form in OTHER_FORMS.findall(text)
    ]
    assert found == []


@pytest.mark.parametrize("page", citations.PAGES)
def test_no_section_is_there_twice(page: str) -> None:
    """Neither its number nor its anchor."""
    text = (citations.FOLDER / citations.PAGES[page]).read_text()
    headings = re.findall(r"^##+ (\d[\d.]*) .*\{#([\w-]+)\}$", text, re.MULTILINE)
    assert headings
    for each in zip(*headings, strict=True):
        assert len(set(each)) == len(each)
    assert len(headings) == len(citations.sections(page))


def test_a_list_of_sections_is_read_whole() -> None:
    """Each of them is looked up, also where the list is broken over lines of a comment."""
    text = "# (wire 6.2, 6.3, differences 4, 7\n# and 8; command line 4.3)"
    assert [str(one) for one in citations.citations(text)] == [
        *("wire 6.2", "wire 6.3", "difference 4", "difference 7", "difference 8", "command line 4.3")
    ]


def test_a_citation_in_docs_is_a_link() -> None:
    """Once, and not in code or headings."""
    page = citations.FOLDER / "wire.md"
    text = "# Of wire 2\n\nSee (wire 2.1 and 3), `difference 4`, difference 4."
    linked = citations.linked(page, text)
    assert linked == (
        "# Of wire 2\n\nSee ([wire 2.1](wire.md#s2-1) and [3](wire.md#s3)), `difference 4`,"
        " [difference 4](differences.md#d4)."
    )
    assert citations.linked(page, linked) == linked
