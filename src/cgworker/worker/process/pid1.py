"""Being a container's PID 1: reap what others left behind, and pass signals on.

The kernel gives orphans to PID 1, who has to wait for them or they stay as zombies. Waiting for any child
would also take the exit statuses that the event loop waits for; so the worker runs in a child of its own,
and the process with the number 1 does nothing but reap and pass on.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


def run_below_pid1() -> None:
    """If this is PID 1, go on in a child; the parent never returns and exits with the child's status.

    Call it before any thread or event loop exists.
    """
    if not hasattr(os, "fork") or os.getpid() != 1:
        return
    passed_on = {getattr(signal, name) for name in _PASSED_ON}
    # Blocked until both sides have their handlers: a signal in between would be heard by neither.
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
    child = os.fork()
    if child:
        for number in passed_on:
            signal.signal(number, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
    if child:
        sys.exit(_reap_until_exit(child))


def _reap_until_exit(child: int) -> int:
    """Wait for everybody; return the exit status of `child` as a shell tells it."""
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
