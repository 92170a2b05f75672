"""The documentation's code blocks, and what stands before them says is to be done with each.

`<!-- run -->` runs the block, `<!-- run in the background -->` leaves each of its lines running to the page's
end, and `<!-- file: NAME -->` saves it. A reader sees none of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent
SKILL = ROOT / "examples" / "skills" / "cgworker" / "SKILL.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), SKILL]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>run|run in the background|file: (?P<file>\S+)) -->\n(?:<!-- made: \S+ -->\n\n)?)?"
    r"```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@frozen
class Block:
    """A code block, and what is to be done with it."""

    page: Path
    line: int
    language: str
    code: str
    mark: str | None
    file: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All code blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"], found["code"], found["mark"], found["file"])
