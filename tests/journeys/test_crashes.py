"""A worker killed at a step of keeping private steps or a result; `make crash` does them all."""

from __future__ import annotations

import pytest

from cgworker.testing import LocalKernel
from tests.crash.stories import crash, crash_agent

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


async def test_a_crash_repeats_no_private_step_after_which_another_began(kernel: LocalKernel) -> None:
    """At a few steps of putting the values and appending the records."""
    count = await crash_agent(kernel.new_project(), _NEVER)
    assert count > 100
    for part in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95):
        await crash_agent(kernel.new_project(), round(count * part))
