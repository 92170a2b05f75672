"""Routes that describe the other routes: for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from operator import attrgetter
from typing import Any

from starlette.responses import HTMLResponse, Response

from cgworker.kernel.http.messages import reply
from cgworker.kernel.http.request import Request
from cgworker.kernel.openapi.document import TITLE, describe
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.openapi.schemas import description_of

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 70rem; margin: 2rem auto }}
td {{ padding: .2rem 1rem .2rem 0 }}
</style>
<h1>{title}</h1>
<p>In full, for programs: <a href="/openapi.json">openapi.json</a>.</p>
{sections}
</html>
"""


async def openapi(request: Request) -> Response:
    """Every route, what it takes and what it gives, as OpenAPI 3.1."""
    return reply(describe(request.app.routes, request.kernel.config))


async def docs(request: Request) -> Response:
    """Every route, for people."""
    by_noun = groupby(request.app.routes, key=attrgetter("noun"))
    sections = "".join(_section(noun, rows) for noun, rows in by_noun)
    return HTMLResponse(_PAGE.format(title=escape(TITLE), sections=sections))


def _section(noun: str, rows: Iterator[Operation]) -> str:
    lines = "".join(
        f"<tr><td>{row.method}<td><code>{escape(row.path)}</code><td>{escape(description_of(row.summary))}"
        for row in rows
    )
    return f"<h2>{escape(noun)}</h2><table>{lines}</table>"


routes: list[Operation] = [
    Operation("GET", "/openapi.json", openapi, gives=Mapping[str, Any], identified_by=()),
    Operation("GET", "/docs", docs, gives=str, identified_by=(), media_type="text/html"),
]
