"""Keep freed memory for the next requests, and give it back to the operating system when they are over.

The C library keeps the pages between those that are still in use. A kernel that has carried payloads of many
megabytes for several clients at once would stay at three times its size. What is free at the end of the heap,
however, the library gives back at once: a page of 1,000 records then has each of its copies cleared anew by
the operating system, which is a tenth of what it costs a kernel.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_GROWTH_BYTES = 8 * 2**20
_STEP_BYTES = 2**20

# Options of glibc's mallopt. Larger blocks than the second are not of the heap: they go back at once.
_M_TRIM_THRESHOLD, _KEPT_BYTES = -1, 16 * 2**20
_M_MMAP_THRESHOLD, _HEAP_BLOCK_BYTES = -3, 4 * 2**20


def resident_bytes() -> int:
    """Return the resident bytes of this process; 0 if unknown. The peak would include the parent's."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def keep_freed_memory() -> None:
    """Have glibc keep up to 16 MiB of free memory at the end of this process's heap."""
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    set_option(_M_MMAP_THRESHOLD, _HEAP_BLOCK_BYTES)


class FreedMemory:
    """What this process has freed and still holds."""

    def __init__(self) -> None:
        self._needed_bytes = resident_bytes()

    def give_back(self) -> None:
        """Give it back if the process holds more than it seems to need. It takes some milliseconds.

        What is in use now may be freed later without a further growth: so what the process seems to need
        rises slowly, and falls at once.
        """
        if resident_bytes() > self._needed_bytes + _GROWTH_BYTES:
            find_trim()(0)
            self._needed_bytes = min(resident_bytes(), self._needed_bytes + _STEP_BYTES)


@cache
def find_trim() -> Callable[[int], object]:
    """Return glibc's function; one that does nothing where another C library is used."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda _: None
    return trim
