"""Find citations of the protocol's pages, such as "wire 6.2", and make links of those in docs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

PAGES = {
    "wire": "wire.md",
    "admission": "admission.md",
    "command line": "command-line.md",
    "difference": "differences.md",
}
FOLDER = Path(__file__).parent / "reference" / "protocol"

_SECTION = r"\d+(?:\.\d+)?\b"
_SPACE = r"(?:\s|#|--)+"  # also across the lines of a comment
_JOINT = rf"(?:,?{_SPACE}and|,){_SPACE}"
_CITATION = re.compile(
    rf"(?<![\[-])\b(?P<page>wire|admission|command line|differences?){_SPACE}"
    rf"(?P<sections>{_SECTION}(?:{_JOINT}{_SECTION})*)",
    re.IGNORECASE,
)
_CODE_OR_CITATION = re.compile(
    rf"^```.*?^```$|^#.*?$|`[^`\n]*(?:\n[^`\n]+)?`|{_CITATION.pattern}",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_NUMBER = re.compile(_SECTION)
_HEADING = re.compile(rf"^#{{2,3}} (?P<section>{_SECTION}) .*\{{#(?P<anchor>[\w-]+)\}}$", re.MULTILINE)


@frozen
class Citation:
    """One section that a text cites."""

    page: str
    section: str

    def __str__(self) -> str:
        return f"{self.page} {self.section}"


def citations(text: str) -> Iterator[Citation]:
    """Yield each section that a text cites, in order."""
    for found in _CITATION.finditer(text):
        for section in _NUMBER.findall(found["sections"]):
            yield Citation(_page_of(found), section)


def sections(page: str) -> dict[str, str]:
    """Return the anchor of each section of a page."""
    text = (FOLDER / PAGES[page]).read_text()
    return {found["section"]: found["anchor"] for found in _HEADING.finditer(text)}


def linked(page: Path, text: str) -> str:
    """Return the text of a page with its citations as links; headings and code stay as they are."""
    folder = Path(os.path.relpath(FOLDER, page.parent)).as_posix() + "/"
    folder = folder.removeprefix("./")
    return _CODE_OR_CITATION.sub(lambda found: _link(found, folder) if found["page"] else found[0], text)


def _link(found: re.Match[str], folder: str) -> str:
    anchors = sections(_page_of(found))
    target = f"{folder}{PAGES[_page_of(found)]}"
    first, *others = _NUMBER.finditer(found["sections"])
    parts = [f"[{found['page']} {first[0]}]({target}#{anchors[first[0]]})"]
    end = first.end()
    for other in others:
        parts += [found["sections"][end : other.start()], f"[{other[0]}]({target}#{anchors[other[0]]})"]
        end = other.end()
    return "".join(parts)


def _page_of(found: re.Match[str]) -> str:
    return " ".join(found["page"].lower().split()).removesuffix("s")
