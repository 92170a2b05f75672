"""pytest fixtures: a real kernel for the session, a project for each test, and a worker in it.

Some of them are async, for tests that anyio's pytest plugin runs on asyncio or trio. pytest loads this
module wherever cgworker is installed, so it imports nothing else until a fixture is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cgworker import Worker
    from cgworker.testing import LocalKernel

    RunWorker = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture(scope="session")
def cg_server() -> Iterator[LocalKernel]:
    """A real kernel on an embedded PostgreSQL, shared by all tests. It starts on first use."""
    from anyio.from_thread import start_blocking_portal

    from cgworker.testing import local_kernel

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_kernel()) as kernel,
    ):
        yield kernel


@pytest.fixture
async def cg_kernel(cg_server: LocalKernel) -> AsyncIterator[LocalKernel]:
    """The kernel with a project for this test alone, including faults."""
    kernel = cg_server.new_project()
    try:
        yield kernel
    finally:
        await kernel.aclose()


@pytest.fixture
async def cg_worker(cg_kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunWorker:
    """Runs a worker until a block ends.

    Use it as `async with cg_worker(answer, agent_id="desk") as worker:`.
    The first argument is a worker, a worker's class, a function as under `@worker.turn()`, or any handler;
    the others are those of `Worker`. A worker, such as `desk.desk` of your program, is copied for the test's
    kernel, with its agent's id; the profile that it was made from is not read. The worker's files are below
    the test's `tmp_path`.
    """
    from cgworker import Worker

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    @asynccontextmanager
    async def run(handler: Any, *, agent_id: str | None = None, **settings: Any) -> AsyncIterator[Worker]:
        import anyio

        is_worker = isinstance(handler, Worker)
        client = await cg_kernel.agent(agent_id or (handler.agent.agent_id if is_worker else "desk"))
        if is_worker:
            worker = handler.with_kernel(client, **settings)
        elif isinstance(handler, type) and issubclass(handler, Worker):
            worker = handler(client, **settings)
        else:
            worker = Worker(client, handler, **settings)
        async with anyio.create_task_group() as tasks:
            await tasks.start(worker.run)
            try:
                yield worker
            finally:
                worker.drain()

    return run
