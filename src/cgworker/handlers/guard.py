"""A small process beside the worker that ends its children if the worker itself is killed.

It holds the read end of a pipe whose only writer is the worker, and keeps the process groups the worker
told it of. At the end of the pipe, which also a SIGKILL brings about, it ends those groups: SIGTERM, and
SIGKILL two seconds later.

Why not a parent-death signal: it hangs on the thread that spawned the child, reaches the direct child
only, and exists on Linux only. Limits of the guard: a process that left its group (`setsid`) is not
reached, nor one started in the instant between a child's birth and its being told; and whoever kills the
guard first gets no guard.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from contextlib import suppress

_PROGRAM = """
import os, signal, sys, time
for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    verb, group = line.split()
    (groups.add if verb == "add" else groups.discard)(int(group))
for number in (signal.SIGTERM, signal.SIGKILL):
    for group in list(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)
    if groups and number == signal.SIGTERM:
        time.sleep(2)
"""


class Guard:
    """The guard process, started with the first child and ended with the worker's process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def add(self, group: int) -> None:
        """From now on, end this process group if this process dies."""
        self._tell("add", group)

    def remove(self, group: int) -> None:
        """The group is gone; its number may be reused by strangers."""
        self._tell("remove", group)

    def close(self) -> None:
        """End the guard, and whatever is still recorded."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            process.wait()

    def _tell(self, verb: str, group: int) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            if verb == "remove":
                return
            process = self._process = _start()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{verb} {group}\n")
            process.stdin.flush()
        except OSError:  # it was killed just now; the next child starts another
            self._process = None


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env={},
        cwd="/",
        start_new_session=True,
    )


guard = Guard()
atexit.register(guard.close)
