"""A console that is served, and ends with whoever serves it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from cgworker.testing import LocalKernel
from tests.console.serving import served_console


async def test_a_console_that_is_cancelled_ends_in_order(kernel: LocalKernel) -> None:
    """`cg dev` ends its console so: nothing of it runs on, and nothing answers."""
    async with await kernel.agent("person") as person:
        before = asyncio.all_tasks()
        async with served_console(person) as link, httpx.AsyncClient() as browser:
            assert (await browser.get(link)).status_code in (200, 303)
        assert asyncio.all_tasks() <= before
        async with httpx.AsyncClient() as browser:
            with pytest.raises(httpx.ConnectError):
                await browser.get(link)
