"""A kernel on a real PostgreSQL. It runs on asyncio only, since asyncpg does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from unittest import mock

import httpx
import pytest

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll import notifier
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.parked import until
from tests.kernel.project import Project, client_of


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def _no_look_by_the_clock() -> Iterator[None]:
    """What waits is woken or finds nothing, however slow the machine is."""
    with mock.patch.object(notifier, "RECHECK_SECONDS", 3600.0):
        yield


@pytest.fixture(scope="module")
async def database(dsn: str) -> AsyncIterator[Database]:
    """The module's database."""
    async with Database.open(dsn) as database:
        yield database


@pytest.fixture(scope="module")
def config() -> KernelConfig:
    """A lease of half a minute and no reaper, so that tests say when a lease ends."""
    return KernelConfig(claim_reaper_interval_seconds=0)


@pytest.fixture(scope="module")
async def kernel(config: KernelConfig, database: Database) -> AsyncIterator[Kernel]:
    """A kernel with its wake-ups running."""
    async with open_kernel(config, database) as kernel:
        yield kernel


@pytest.fixture(scope="module")
async def client(kernel: Kernel) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the kernel's application."""
    async with client_of(kernel) as client:
        yield client


@pytest.fixture
def project(kernel: Kernel, client: httpx.AsyncClient) -> Project:
    """A project that no other test has."""
    return Project(kernel, client)


@pytest.fixture
async def elsewhere(project: Project, dsn: str) -> AsyncIterator[Project]:
    """The same project at a second kernel, which shares nothing with the first but the database."""
    async with (
        Database.open(dsn) as database,
        open_kernel(project.kernel.config, database) as kernel,
        client_of(kernel) as client,
    ):
        await until(lambda: _is_settled(kernel))
        yield Project(kernel, client, project.id)


def _is_settled(kernel: Kernel) -> bool:
    """Whether all others speak to a kernel that has begun; when they do, its waiting requests read again."""
    others = kernel.notifier._others  # noqa: SLF001  # nobody else needs to know
    return others is not None and others.all_speak
