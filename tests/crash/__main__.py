"""Kill at every step of every story: `make crash`, or `make crash CRASH="--each 5"` for every fifth."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import anyio

from cgworker.testing import LocalKernel, local_kernel
from tests.crash.stories import STORIES, Crash, crash, crash_agent
from tests.warm import warm_python

_POLICIES = ("beside", "before", "late")
_NEVER = 10**9


async def main(each: int, policies: tuple[str, ...]) -> int:
    """Return 1 if a promise was broken."""
    broken: list[str] = []
    async with local_kernel(lease_seconds=30.0) as kernel:
        for when in policies:
            for story in STORIES:
                broken += await _each_step(kernel, story, when, each)
        broken += await _each_step_of_an_agent(kernel, each)
    for message in broken:
        sys.stdout.write(f"BROKEN {message}\n")
    return 1 if broken else 0


async def _each_step(kernel: LocalKernel, story: str, when: str, each: int) -> list[str]:
    broken, seen = [], Counter[str]()
    whole = await _one(kernel, story, when, _NEVER)
    step, count = 1, whole.step_count
    while step <= count:
        try:
            seen[_word(await _one(kernel, story, when, step))] += 1
        except AssertionError as failure:
            broken.append(str(failure))
        step += each
    told = ", ".join(f"{number} {word}" for word, number in sorted(seen.items()))
    sys.stdout.write(f"{story}, {when}: {count} steps; killed when {told}; broken {len(broken)}\n")
    sys.stdout.flush()
    return broken


async def _each_step_of_an_agent(kernel: LocalKernel, each: int) -> list[str]:
    broken = []
    count = await crash_agent(kernel.new_project(), _NEVER)
    for step in range(1, count + 1, each):
        try:
            await crash_agent(kernel.new_project(), step)
        except AssertionError as failure:
            broken.append(str(failure))
    sys.stdout.write(f"private steps: {count} steps; broken {len(broken)}\n")
    return broken


async def _one(kernel: LocalKernel, story: str, when: str, step: int) -> Crash:
    project = kernel.new_project()
    try:
        return await crash(project, story, when, step)
    finally:
        await project.aclose()


def _word(found: Crash) -> str:
    if found.is_whole:
        return "it was over"
    who = [name for name, has_it in (("kernel", found.kernel_has_it), ("disk", found.disk_has_it)) if has_it]
    return " and ".join(who or ["nobody"]) + " had it"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=1, metavar="N", help="kill at every Nth step only")
    parser.add_argument("--outbox", choices=_POLICIES, action="append", help="only with this policy")
    given = parser.parse_args()
    warm_python()
    sys.exit(anyio.run(main, given.each, tuple(given.outbox or _POLICIES)))
