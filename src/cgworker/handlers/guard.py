"""A small process beside the worker that ends its commands when the worker cannot.

It holds the read end of a pipe whose only writer is the worker, and keeps what the worker told it of:
process groups, the end of the lease that each works under, and temporary folders.

- The worker is gone (the end of the pipe, which also a SIGKILL brings about): it sends SIGTERM to those
  groups, SIGKILL two seconds later, and then removes those folders and no others.
- The worker stands still (SIGSTOP, a blocked event loop) until a lease is over: it ends that lease's group,
  as another worker may hold the turn from then on.

Why not a parent-death signal: it hangs on the thread that spawned the child, reaches the direct child
only, and exists on Linux only. Limits of the guard: a process that left its group (`setsid`) is not
reached, nor one started in the instant between a child's birth and its being told; guard and worker killed
in one instant leave their commands running; and without process groups (Windows) there is no guard.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from cgworker.events import logger
from cgworker.handlers.group import HAS_GROUPS
from cgworker.lease import Lease
from cgworker.wire.converter import dumps

_PROGRAM = Path(__file__).with_name("guard_process.py")
_WARN_FRACTION = 0.25  # of the lease's margin: until then the worker, if it lives, warns by itself


class Guard:
    """The guard process, started with the first thing to guard and ended with the worker's process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._told: dict[str, dict[str, Any]] = {}
        self._telling = Lock()  # a program may have an event loop in each of several threads

    @contextmanager
    def watching(self, group: int, lease: Lease | None) -> Iterator[None]:
        """Within the block the process group ends with this process, and with the lease if there is one."""
        with ExitStack() as following:
            if lease is None:
                self._keep(f"group {group}", {"group": group, "warn_at": None, "end_at": None})
            else:
                following.enter_context(lease.followed_by(lambda now: self._hold(group, now)))
            try:
                yield
            finally:
                following.close()
                self._forget(f"group {group}", {"gone": group})

    @contextmanager
    def removing(self, folder: Path) -> Iterator[None]:
        """Remove the folder after the block, or when this process is gone.

        The guard does it, because a busy disk can take its time, and our event loop has none.
        """
        self._keep(f"folder {folder}", {"folder": str(folder)})
        try:
            yield
        finally:
            if not self._forget(f"folder {folder}", {"remove": str(folder)}):
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the guard, and whatever is still recorded."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            process.wait()

    def leave_to_parent(self) -> None:
        """In a forked child: while the pipe is open here, the guard would not notice the parent's death."""
        process, self._process = self._process, None
        self._told, self._telling = {}, Lock()
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def _hold(self, group: int, lease: Lease) -> None:
        warn_at = lease.fence_at + lease.margin_seconds * _WARN_FRACTION
        self._keep(f"group {group}", {"group": group, "warn_at": warn_at, "end_at": lease.ends_at})

    def _keep(self, what: str, fact: dict[str, Any]) -> None:
        with self._telling:
            self._told[what] = fact
            if HAS_GROUPS and not self._tell(fact):
                self._start_again()

    def _forget(self, what: str, fact: dict[str, Any]) -> bool:
        """Whether there is a guard that knows."""
        with self._telling:
            del self._told[what]
            if self._process is None:
                return False
            return self._tell(fact) or (self._start_again() and self._tell(fact))

    def _tell(self, fact: dict[str, Any]) -> bool:
        return self._process is not None and _write(self._process, fact)

    def _start_again(self) -> bool:
        """The first one, or another for one that was killed or reads no more; it is told everything."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        try:
            self._process = _start()
        except OSError as refused:  # work goes on unguarded; the next thing to keep tries again
            logger.warning("no guard could be started; commands would outlive this process: %s", refused)
            return False
        return all(self._tell(fact) for fact in self._told.values())


def _start() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={},
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)  # a guard that stands still must not stop the worker
    return process


def _write(process: subprocess.Popen[bytes], fact: dict[str, Any]) -> bool:
    """Whether the guard took it: a line is shorter than what a pipe takes whole or not at all."""
    assert process.stdin is not None
    try:
        return process.stdin.write(dumps(fact) + b"\n") is not None
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """A killed guard ends nothing: what it knew is told to the next one."""
    process.kill()
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    process.wait()


guard: Guard = Guard()
atexit.register(guard.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=guard.leave_to_parent)
