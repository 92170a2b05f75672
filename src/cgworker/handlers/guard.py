"""The guard: a small process beside the worker that ends its commands when the worker cannot.

The guard reads a pipe whose only writer is the worker. The worker reports its process groups, the end of the
lease of each, and its temporary folders.

- If the worker ends, even by SIGKILL, the pipe ends. The guard sends SIGTERM to the groups, SIGKILL two
  seconds later, and then removes those folders and no others.
- If the worker is stopped (SIGSTOP, a blocked event loop) until a lease ends, the guard ends that lease's
  group, because another worker may hold the turn from then on.

A parent-death signal would not do: it depends on the thread that spawned the child, reaches only the direct
child, and exists only on Linux. Limits of the guard: it does not reach a process that left its group
(`setsid`), or a child whose start was not reported yet. If guard and worker are killed at once, the commands
run on. Without process groups (Windows) there is no guard.
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
from cgworker.lease import Lease, monotonic
from cgworker.wire.converter import dumps

_PROGRAM = Path(__file__).with_name("guard_process.py")
_WARN_FRACTION = 0.25  # of the lease's margin: a live worker sends SIGTERM itself before
_EARLY_SECONDS = 0.02  # what the worker writes now may be read after a signal that is due then


class Guard:
    """Starts the guard process when there is something to guard, and ends it with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, dict[str, Any]] = {}
        self._late: set[str] = set()  # the groups of which it was told too late that their lease goes on
        self._lock = Lock()  # several threads may each have an event loop

    @contextmanager
    def watching(self, group: int, lease: Lease | None) -> Iterator[None]:
        """End a process group with this process, and with its lease, while the block runs.

        Args:
            group: the id of the process group.
            lease: the lease it works under; None for none.
        """
        with ExitStack() as following:
            if lease is None:
                self._keep(f"group {group}", _without_lease(group))
            else:
                following.enter_context(lease.followed_by(lambda now: self._hold(group, now)))
            try:
                yield
            finally:
                following.close()
                self._forget(f"group {group}", {"gone": group})

    @contextmanager
    def under_lease(self, group: int, lease: Lease) -> Iterator[None]:
        """End a group that is watched already with a lease too, while the block runs.

        Args:
            group: the id of the process group.
            lease: the lease it works under in the block.
        """
        name = f"group {group}"

        def hold(now: Lease) -> None:
            if name in self._facts:  # once it has ended, another group may get its id
                self._hold(group, now)

        try:
            with lease.followed_by(hold):
                yield
        finally:
            if name in self._facts:
                self._keep(name, _without_lease(group))
            self._late.discard(name)

    def may_have_ended(self, group: int) -> bool:
        """Return whether it may have signalled a group, although its lease goes on.

        That is so if the lease was renewed only when the signal was due: by a worker that stood still.

        Args:
            group: the id of the process group, which is watched.
        """
        name = f"group {group}"
        return name in self._late or self._is_due(name)

    @contextmanager
    def removing(self, folder: Path) -> Iterator[None]:
        """Remove a folder after the block, or when this process ends.

        The guard removes it, so that a slow disk does not block the event loop.

        Args:
            folder: the folder.
        """
        self._keep(f"folder {folder}", {"folder": str(folder)})
        try:
            yield
        finally:
            if not self._forget(f"folder {folder}", {"remove": str(folder)}):
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self, folder: str) -> None:
        """Remove a folder that need not be there.

        Args:
            folder: its path.
        """
        with self._lock:
            is_told = self._tell({"remove": folder})
        if not is_told:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the guard, and with it all groups and folders that it still knows."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            process.wait()

    def leave_to_parent(self) -> None:
        """Close the pipe in a forked child: while it is open, the guard does not see the parent's end."""
        process, self._process = self._process, None
        self._facts, self._late, self._lock = {}, set(), Lock()
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def _hold(self, group: int, lease: Lease) -> None:
        name = f"group {group}"
        warn_at = lease.fence_at + lease.margin_seconds * _WARN_FRACTION
        if self._is_due(name):
            self._late.add(name)
        self._keep(name, {"group": group, "warn_at": warn_at, "end_at": lease.ends_at})

    def _is_due(self, name: str) -> bool:
        warn_at = self._facts.get(name, {}).get("warn_at")
        return warn_at is not None and monotonic() >= warn_at - _EARLY_SECONDS

    def _keep(self, what: str, fact: dict[str, Any]) -> None:
        with self._lock:
            self._facts[what] = fact
            if HAS_GROUPS and not self._tell(fact):
                self._start_again()

    def _forget(self, what: str, fact: dict[str, Any]) -> bool:
        """Remove a fact, and tell the guard; return whether a guard was told."""
        with self._lock:
            del self._facts[what]
            self._late.discard(what)
            if self._process is None:
                return False
            return self._tell(fact) or (self._start_again() and self._tell(fact))

    def _tell(self, fact: dict[str, Any]) -> bool:
        return self._process is not None and _write(self._process, fact)

    def _start_again(self) -> bool:
        """Start a guard, the first or one in place of a dead one, and tell it all facts."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        try:
            self._process = _start()
        except OSError as refused:  # work goes on without a guard; the next fact tries again
            logger.warning("no guard could be started; commands would outlive this process: %s", refused)
            return False
        return all(self._tell(fact) for fact in self._facts.values())


def _without_lease(group: int) -> dict[str, Any]:
    return {"group": group, "warn_at": None, "end_at": None}


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
    os.set_blocking(process.stdin.fileno(), False)  # a stopped guard must not block the worker
    return process


def _write(process: subprocess.Popen[bytes], fact: dict[str, Any]) -> bool:
    """Write a line, whole or not at all, since it is short; return whether it was written."""
    assert process.stdin is not None
    try:
        return process.stdin.write(dumps(fact) + b"\n") is not None
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a guard. It ends no group then; the next guard is told its facts."""
    process.kill()
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    process.wait()


guard: Guard = Guard()
atexit.register(guard.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=guard.leave_to_parent)
