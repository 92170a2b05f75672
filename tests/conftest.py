"""Settings and fixtures of all tests. Library tests run on asyncio and on trio (anyio's `anyio_backend`)."""

from tests import environment  # isort: skip  # before imports that read the environment

import asyncio
import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.databases import dsn, postgres, template
from tests.initdb import run_initdb_once, share_clusters
from tests.kernels import new_project, portal, shared_kernel
from tests.measured import measure_programs

__all__ = ["dsn", "environment", "new_project", "portal", "postgres", "shared_kernel", "template"]

share_clusters()
run_initdb_once()

gc.disable()  # until the tests are collected: what is loaded for them stays, and is not looked through

# The gate uses the same examples each time, so that a failure can be repeated; a developer's differ.
settings.register_profile("cgworker", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("gate", parent=settings.get_profile("cgworker"), derandomize=True)
settings.load_profile("cgworker")

# This makes each asyncio event loop a uvloop, those of kernels and those of anyio's tests.
if os.environ.get("CG_TEST_LOOP") == "uvloop":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

# Tests that start processes or wait for long; `make test-fast` leaves them out.
SLOW = [
    *("adapters/test_acp.py", "adapters/test_extras.py", "cli", "client/test_surroundings.py", "conformance"),
    *("console/test_hostile_text.py", "console/test_journeys.py", "console/test_mounted.py"),
    *("console/test_pages.py", "console/test_restart.py", "console/test_story.py", "test_newcomers.py"),
    "test_site.py",
    *("handlers/test_child.py", "handlers/test_command.py", "handlers/test_guard.py"),
    *("handlers/test_hostile_commands.py", "journeys", "kernel/test_crowds.py", "kernel/test_embedded.py"),
    *("kernel/test_fuzz.py", "kernel/test_kills.py", "kernel/test_database.py", "test_docs.py"),
    *("test_environment.py", "test_examples.py", "test_floors.py", "test_runtimes.py", "test_stores.py"),
    *(
        "test_types.py",
        "test_windows.py",
        "testing/test_checking.py",
        "testing/test_local_kernel.py",
        "testing/test_plugin.py",
    ),
    *("worker/test_dumpable.py", "worker/test_pid1.py", "worker/test_serve.py"),
]

# Tests that a busy machine would change: when processes and leases end, how plans are made. They run after
# the others, one at a time.
SERIAL = ["cli/test_exactness.py", "journeys/test_commands.py", "kernel/test_statements.py"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Load no file of which `-m serial` or `-m "not slow ..."` would leave out every test."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    here = collection_path.relative_to(Path(__file__).parent)
    if config.option.markexpr == "serial":
        return str(here) not in SERIAL or None
    return (config.option.markexpr.startswith("not slow") and any(map(here.is_relative_to, SLOW))) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow and serial tests, and refuse test ids with an address: xdist's processes compare the ids."""
    here = Path(__file__).parent
    paths = {item.path for item in items}
    slow = {path for path in paths if any(path.is_relative_to(here / each) for each in SLOW)}
    serial = {here / each for each in SERIAL}
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} is named by an address: give its parameter an id")
        if item.path in slow:
            item.add_marker(pytest.mark.slow)
        if item.path in serial:
            item.add_marker(pytest.mark.serial)


def pytest_collection_finish() -> None:
    """Leave all that was loaded out of the collections of garbage from now on."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Measure the programs that tests start, once pytest-cov has begun to measure the tests."""
    measure_programs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in the output of a test, since pytest-xdist cannot send them."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report
