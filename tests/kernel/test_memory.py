"""A kernel gives back the memory that large payloads have taken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cgworker.kernel import memory
from cgworker.kernel.memory import FreedMemory

MIB = 2**20


def test_memory_is_given_back_after_growth_and_again_when_more_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was in use at the first time is given back later, though the process has not grown since."""
    held, in_use, calls = 60 * MIB, 60 * MIB, 0

    def trim(_: int) -> None:
        nonlocal held, calls
        held, calls = in_use, calls + 1

    monkeypatch.setattr(memory, "resident_bytes", lambda: held)
    monkeypatch.setattr(memory, "find_trim", lambda: trim)
    freed = FreedMemory()
    freed.give_back()
    assert calls == 0
    held, in_use = 250 * MIB, 180 * MIB
    freed.give_back()
    assert (held, calls) == (180 * MIB, 1)
    in_use = 60 * MIB
    freed.give_back()
    assert (held, calls) == (60 * MIB, 2)


def test_memory_that_stays_in_use_is_not_looked_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def trim(_: int) -> None:
        nonlocal calls
        calls += 1

    held = 60 * MIB
    monkeypatch.setattr(memory, "resident_bytes", lambda: held)
    monkeypatch.setattr(memory, "find_trim", lambda: trim)
    freed = FreedMemory()
    held = 90 * MIB
    for _ in range(100):
        freed.give_back()
    assert calls == 22


def test_any_c_library_will_do() -> None:
    memory.find_trim()(0)


FAULTS = """
import resource
from cgworker.kernel.memory import keep_freed_memory
keep_freed_memory()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def copies():
    return [b'x' * 1_000_000 for _ in range(4)]
copies()
before = pages()
for _ in range(50):
    copies()
print(pages() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux tells them")
def test_the_memory_of_a_large_answer_is_used_again() -> None:
    """Four copies of a megabyte, fifty times, are 49,000 pages; the operating system clears few of them."""
    counted = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(counted.stdout) < 5_000
