"""The console in a real browser, over a real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker.testing import LocalKernel
from tests.console.browser import NAMES, chromium
from tests.console.sample import Sample
from tests.console.serving import Browser, served_console
from tests.kernels import NewProject


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The console and the browser's driver run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel with a project of its own."""
    async with new_project() as kernel:
        yield kernel


@pytest.fixture
async def sample(kernel: LocalKernel) -> AsyncIterator[Sample]:
    """The sample project, whose worker runs."""
    sample = Sample(kernel)
    await sample.make()
    async with anyio.create_task_group() as group:
        group.start_soon(sample.worker.run)
        yield sample
        sample.go_on.set()
        sample.worker.drain(force=True)
        group.cancel_scope.cancel()


@pytest.fixture
async def link(sample: Sample) -> AsyncIterator[str]:
    """The one-time link of a console of the sample project."""
    async with served_console(sample.person) as link:
        yield link


@pytest.fixture(scope="module")
async def chromium_process() -> AsyncIterator[Any]:
    """A Chromium. Its start takes as long as most tests in it."""
    path = chromium()
    if path is None:
        pytest.skip(f"NO CHROMIUM: none of {', '.join(NAMES)} is on the PATH; CG_TEST_CHROMIUM names another")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        process = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield process
        await process.close()


@pytest.fixture
async def browser(chromium_process: Any) -> AsyncIterator[Browser]:
    """A browser of the test's own: nobody is signed in."""
    browser = Browser(chromium_process)
    yield browser
    await browser.close()
