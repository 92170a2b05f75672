"""Keep other processes of the same user from reading the memory and the environment of a worker.

A command gets an environment without secrets, but it runs as the same user. On Linux a user can read
`/proc/PID/environ` and the memory of all their processes, except those that are not dumpable.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4
_VARIABLE = "CG_WORKER_DUMPABLE"


def close_memory() -> None:
    """Make this process not dumpable, so that Linux refuses its memory to other processes of the user.

    For code that owns the process: core dumps, debuggers and profilers of the same user (gdb, py-spy) stop
    working too. `CG_WORKER_DUMPABLE=on` leaves the process readable. Programs that it starts are readable
    again. On other systems this does nothing.
    """
    if sys.platform == "linux" and os.environ.get(_VARIABLE, "").strip().lower() != "on":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
