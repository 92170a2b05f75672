"""Kernels for tests: one for the session and each length of lease, a project of it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import cache
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from cgworker.testing import LocalKernel, local_kernel

SharedKernel = Callable[..., LocalKernel]
NewProject = Callable[..., AbstractAsyncContextManager[LocalKernel]]


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """The event loop that starts and stops the session's kernels; tests that do not await use it as well."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def shared_kernel(portal: BlockingPortal, postgres: str) -> Iterator[SharedKernel]:
    """The session's kernel with these settings of `local_kernel`, started when a test first asks for it."""
    with ExitStack() as stack:

        @cache
        def started(**settings: Any) -> LocalKernel:
            running = portal.wrap_async_context_manager(local_kernel(postgres=postgres, **settings))
            return stack.enter_context(running)

        yield started


@pytest.fixture(scope="session")
def new_project(shared_kernel: SharedKernel) -> NewProject:
    """Takes the place of `local_kernel` where a project of one's own is enough: nothing is started for it."""

    @asynccontextmanager
    async def project(**settings: Any) -> AsyncIterator[LocalKernel]:
        kernel = shared_kernel(**settings).new_project()
        try:
            yield kernel
        finally:
            await kernel.aclose()

    return project
