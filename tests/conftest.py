"""What every test shares. Library tests run on asyncio and on trio (anyio's `anyio_backend`)."""

from tests import environment  # isort: skip  # before anything that reads the environment

from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.databases import dsn, postgres, template
from tests.kernels import new_project, portal, shared_kernel

__all__ = ["dsn", "environment", "new_project", "portal", "postgres", "shared_kernel", "template"]

# The gate draws the same examples each time, so that a red run can be repeated; a developer's draws differ.
settings.register_profile("cgworker", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("gate", parent=settings.get_profile("cgworker"), derandomize=True)
settings.load_profile("cgworker")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what a test wrote, since pytest-xdist cannot send them."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report
