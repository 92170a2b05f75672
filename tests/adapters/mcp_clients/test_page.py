"""The page and the example about MCP do what they say."""

from __future__ import annotations

import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

import sys

from tests.pages import ROOT, blocks
from tests.reader import run


def test_the_program_of_the_page_runs() -> None:
    """It offers an agent over HTTP, and calls it."""
    (program,) = [b for b in blocks(ROOT / "docs" / "how-to" / "mcp.md") if b.language == "python"]
    run([sys.executable, "-c", program.code])
