"""A worker killed at a step between its handler's return and its turn's end; `make crash` does them all."""

from __future__ import annotations

import pytest

from cgworker.testing import LocalKernel
from tests.crash.stories import crash

_NEVER = 10**9


@pytest.fixture
def anyio_backend() -> str:
    """The killed worker is a process of its own."""
    return "asyncio"


@pytest.mark.parametrize(
    ("story", "when", "part"),
    [
        ("answered", "beside", 0.5),
        ("put off", "beside", 0.6),
        ("answer lost", "before", 0.5),
        ("request lost", "late", 0.7),
    ],
)
async def test_a_crash_after_the_handler_costs_no_result_that_kernel_or_disk_has(
    kernel: LocalKernel, story: str, when: str, part: float
) -> None:
    """At the first step, in the middle, and without a kill: it runs again only if neither had it."""
    whole = await crash(kernel.new_project(), story, when, _NEVER)
    assert whole.is_whole
    for step in (1, round(whole.step_count * part)):
        await crash(kernel.new_project(), story, when, step)
