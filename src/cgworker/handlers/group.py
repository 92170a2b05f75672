"""The process group of a child: all processes that it started, except those that left it (`setsid`).

Without process groups (Windows), the group is the child alone, and processes that it started live on.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc

HAS_GROUPS = hasattr(os, "killpg") and hasattr(os, "setsid")

_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.02


class ProcessGroup:
    """The group that a child leads.

    Args:
        leader: the child, started in its own session if the platform has sessions.
    """

    def __init__(self, leader: anyio.abc.Process) -> None:
        self._leader = leader
        self._ended_others = False

    @property
    def ended_others(self) -> bool:
        """Whether other processes outlived the leader, and were ended."""
        return self._ended_others

    def has_members(self) -> bool:
        """Whether the group has processes; False where there are no groups."""
        group = self._leader.pid
        return HAS_GROUPS and _exists(group) and not _only_zombies(group)

    def ask_to_end(self) -> None:
        """Send SIGTERM to the group, or terminate the leader where there are no groups."""
        if HAS_GROUPS:
            _signal(self._leader.pid, signal.SIGTERM)
        elif self._leader.returncode is None:
            self._leader.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the group, or kill the leader where there are no groups."""
        if HAS_GROUPS:
            _signal(self._leader.pid, signal.SIGKILL)
        elif self._leader.returncode is None:
            self._leader.kill()

    async def end(self) -> None:
        """Kill the leader if it still runs. Processes that it left get SIGTERM, and SIGKILL 2 s later."""
        if self._leader.returncode is None:
            self.kill()
            await self._leader.wait()
        if not self.has_members():
            return
        await anyio.sleep(_POLL_SECONDS)  # some are about to end
        if not self.has_members():
            return
        self._ended_others = True
        self.ask_to_end()
        with anyio.move_on_after(_GRACE_SECONDS):
            while self.has_members():  # noqa: ASYNC110  # no system tells when a group is gone
                await anyio.sleep(_POLL_SECONDS)
            return
        self.kill()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(group, number)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _only_zombies(group: int) -> bool:
    """Whether the group has only zombies, which their parent has not waited for yet."""
    if sys.platform != "linux":
        return False
    return all(state == "Z" for state in _states_in(group))


def _states_in(group: int) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if int(fields[2]) == group:
            found.append(fields[0])
    return found
