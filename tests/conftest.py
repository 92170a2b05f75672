"""Settings and fixtures of all tests. Library tests run on asyncio and on trio (anyio's `anyio_backend`)."""

from tests import environment  # isort: skip  # before imports that read the environment

import asyncio
import gc
import os
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

from tests.databases import dsn, postgres, template
from tests.initdb import run_initdb_once, share_clusters
from tests.kernels import new_project, portal, shared_kernel
from tests.marks import LISTS, is_listed
from tests.measured import measure_programs, pause_measuring

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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Load no file of which `-m "serial"`, `-m "not slow and ..."` or the like would leave out every test."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    for term in config.option.markexpr.split(" and "):
        mark = term.removeprefix("not ")
        is_left_out = mark in LISTS and is_listed(collection_path, mark) == (mark != term)
        if is_left_out and (mark != term or mark != "slow"):
            return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the lists, and refuse test ids with an address: xdist's processes compare the ids."""
    marks = {
        path: [mark for mark in LISTS if is_listed(path, mark)] for path in {item.path for item in items}
    }
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} is named by an address: give its parameter an id")
        for mark in marks[item.path]:
            item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Measure in one process what is loaded for the tests: xdist's others load the same."""
    with pause_measuring() if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0" else nullcontext():
        return (yield)


def pytest_collection_finish() -> None:
    """Leave all that was loaded out of the collections of garbage from now on."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure the programs that tests start, once pytest-cov measures the tests, but not xdist's own loop."""
    measure_programs()
    with pause_measuring() if session.config.pluginmanager.has_plugin("dsession") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a test that runs on both event loops on one of them: the library has no code for trio alone."""
    callspec = getattr(item, "callspec", None)
    with pause_measuring() if callspec and callspec.params.get("anyio_backend") == "trio" else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in the output of a test, since pytest-xdist cannot send them."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report
