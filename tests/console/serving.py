"""A served console of a project, on a free port of loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from cgworker import KernelClient
from cgworker.console.server import serve_console


@asynccontextmanager
async def served_console(kernel: KernelClient) -> AsyncIterator[str]:
    """Serve a console while the block runs; the value is its one-time link."""
    links: list[str] = []
    ready = anyio.Event()

    def note(link: str) -> None:
        links.append(link)
        ready.set()

    async def serve() -> None:
        await serve_console(kernel, port=0, ready=note)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        with anyio.fail_after(60):
            await ready.wait()
        yield links[0]
        group.cancel_scope.cancel()


def plot_numbers(overview: str) -> dict[str, Any]:
    """The numbers of the plots, from the HTML of an overview."""
    numbers: dict[str, Any] = json.loads(overview.partition("value='")[2].partition("'")[0])
    return numbers


class Browser:
    """A browser, and what its pages complain about.

    Args:
        process: the running Chromium, which others may use as well.
    """

    def __init__(self, process: Any) -> None:
        self._process = process
        self._contexts: list[Any] = []
        self.complaints: list[str] = []

    async def page(self, *, width: int = 1280, scheme: str = "light") -> Any:
        """Open a page in a context of its own, with its own cookies."""
        context = await self._process.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
        )
        self._contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)
        return page

    async def signed_in(self, link: str, **settings: Any) -> Any:
        """Open a page, and the one-time link on it."""
        page = await self.page(**settings)
        await page.goto(link)
        await page.wait_for_url(lambda url: "/login" not in url)
        return page

    async def close(self) -> None:
        """Close its pages, and forget their cookies."""
        for context in self._contexts:
            await context.close()

    def _note(self, message: Any) -> None:
        is_own = "Content Security Policy" in message.text or "Error" in message.text
        if message.type == "error" and is_own:
            self.complaints.append(message.text)
