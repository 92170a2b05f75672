"""The garbage collector of a process that is all a worker's.

What stands when it starts stays to its end, and what a turn leaves ends by itself: there is little to
collect, and looking for it took a quarter of a busy worker's CPU.
"""

from __future__ import annotations

import gc

_OBJECTS = 10_000


def relax_gc() -> None:
    """Have it walk past what stands now, and look for garbage after so many new objects, not some hundred.

    For who owns the process, since this holds for all of it. A user's own settings stand: a collector that is
    off stays off, one that looks less often still does.
    """
    gc.collect()
    gc.freeze()
    first, *others = gc.get_threshold()
    if 0 < first < _OBJECTS:
        gc.set_threshold(_OBJECTS, *others)
