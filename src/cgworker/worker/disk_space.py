"""Stop claiming while the disk is full or a folder cannot be written.

A worker without disk space would claim one turn after the other only to hand it back, and so take the work
from workers that have space.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from cgworker.errors import UsageError
from cgworker.events import ClaimingFailed, ClaimingRecovered, Listener, emit
from cgworker.handlers.files import try_to_write
from cgworker.lease import monotonic
from cgworker.retrying import Backoff
from cgworker.wire.refs import AgentRef

_MAX_SECONDS = 30.0
_CALM_SECONDS = 120.0  # trouble that begins later starts with the first wait again


class Room:
    """The state of the folders that a worker writes to.

    Args:
        folders: the folders. They must be writable before the first claim, and are checked again after
            trouble.
        agent: the worker's agent.
        listener: called when claiming stops for lack of space, and when it goes on.
    """

    def __init__(self, folders: Iterable[Path], agent: AgentRef, listener: Listener | None = None) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._agent = agent
        self._listener = listener
        self._backoff = Backoff(1.0, _MAX_SECONDS)
        self._fault: str | None = None
        self._check_at = 0.0
        self._troubled_at = -math.inf

    def check(self) -> None:
        """Refuse folders that cannot be written.

        Raises:
            UsageError: a folder cannot be written; the message names it and what to set.
        """
        if (fault := self.find_fault()) is not None:
            raise UsageError(
                f"{fault}; set XDG_STATE_HOME, WorkerOptions(outbox_path=...) or, for a command, TMPDIR or"
                " --work-dir to a folder that can be written"
            )

    def find_fault(self) -> str | None:
        """Return why files cannot be written now; None if they can."""
        for folder in self._folders:
            try:
                try_to_write(folder)
            except OSError as unwritable:
                return f"cannot write to {folder}: {unwritable.strerror or unwritable}"
        return None

    def note(self, trouble: OSError) -> None:
        """Note that something could not be written or started: nothing is claimed until a check succeeds."""
        if self._fault is not None:
            return
        if monotonic() - self._troubled_at > _CALM_SECONDS:
            self._backoff.reset()
        self._wait(trouble.strerror or str(trouble))

    def has_room(self) -> bool:
        """Whether the folders can be written; after trouble they are checked again, backing off."""
        if self._fault is None:
            return True
        if monotonic() < self._check_at:
            return False
        if (fault := self.find_fault()) is not None:
            self._wait(fault)
            return False
        self._fault = None
        emit(self._listener, ClaimingRecovered(agent=self._agent))
        return True

    def _wait(self, fault: str) -> None:
        seconds, self._troubled_at = self._backoff.next_seconds(), monotonic()
        self._check_at = self._troubled_at + seconds
        if fault != self._fault:
            self._fault = fault
            told = f"there is no room for what turns leave: {fault}"
            emit(
                self._listener,
                ClaimingFailed(agent=self._agent, error=told, retry_seconds=round(seconds, 1)),
            )
