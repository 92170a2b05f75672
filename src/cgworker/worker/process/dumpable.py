"""What a process of a worker's account could read of the worker: its memory, and the secrets it began with.

A command gets an environment without secrets, but it runs as the same user: on Linux that user can read
`/proc/PID/environ` and the memory of each of its processes, unless a process is not dumpable.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4
_VARIABLE = "CG_WORKER_DUMPABLE"


def close_memory() -> None:
    """Have Linux refuse other processes of this user the memory and the environment of this one.

    For who owns the process, since it also ends core dumps, debuggers and profilers of the same user
    (gdb, py-spy): `CG_WORKER_DUMPABLE=on` leaves it open. A program that is started from here is open again.
    Elsewhere than on Linux nothing is done.
    """
    if sys.platform == "linux" and os.environ.get(_VARIABLE, "").strip().lower() != "on":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
