"""Do the duties of PID 1 in a container: reap orphaned processes, and forward signals.

Linux makes PID 1 the parent of orphans, which stay as zombies until it waits for them. A wait for any child
would also take the exit statuses that the event loop waits for. So the worker runs in a child process, and
PID 1 only reaps and forwards signals.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


def run_below_pid1() -> None:
    """Continue in a child process if this is PID 1; the parent exits with the status of the child.

    Call it before any thread or event loop exists.
    """
    if not hasattr(os, "fork") or os.getpid() != 1:
        return
    passed_on = {getattr(signal, name) for name in _PASSED_ON}
    # Signals are blocked until both processes have their handlers; one in between would be lost.
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    child = os.fork()
    if child:
        for number in passed_on:
            signal.signal(number, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
    if child:
        sys.exit(_reap_until_exit(child))


def _reap_until_exit(child: int) -> int:
    """Reap all children until `child` exits; return its exit status in the form of a shell."""
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)
