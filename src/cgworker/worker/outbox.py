"""Where a result waits on disk until the kernel has it.

A result is written here, and is on the disk, before the first call that settles it. If the answer never
comes and the turn is claimed again, by this worker or by one that shares the folder, the stored result is
delivered and the handler is not run again.

One file a result, named by the turn's fingerprint, so that several processes can share the folder without
talking to each other; it appears by a rename, so it is whole or not there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import frozen

from cgworker.errors import CommonGroundError
from cgworker.handlers.files import make_private_folder, write_private
from cgworker.outcome import Closed, Failed, Stopped, Succeeded, word_for
from cgworker.turn import Turn
from cgworker.wire.converter import ABSENT, dumps, loads

_BY_WORD: dict[str, type[Closed]] = {"succeeded": Succeeded, "failed": Failed, "stopped": Stopped}


class OutboxFull(CommonGroundError):
    """The outbox holds as much as it may; deliver or remove what is kept aside in it."""

    code = "outbox_full"


@frozen
class OutboxEntry:
    """A result on disk."""

    path: Path
    outcome: Closed


class Outbox:
    """Results on disk.

    Args:
        folder: made when needed, 0700.
        most_bytes: how much it may hold; what is kept aside counts, and goes first when room is needed.
    """

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    @property
    def _kept_folder(self) -> Path:
        return self._folder / "kept"

    async def put(self, turn: Turn, outcome: Closed) -> OutboxEntry:
        """Store the outcome; it is on the disk when this returns.

        Raises:
            OutboxFull: there is no room.
            OSError: the folder cannot be written.
        """
        path = self._path_of(turn)
        data = dumps(_facts_of(turn, outcome)) + b"\n"
        await anyio.to_thread.run_sync(self._write, path, data)
        return OutboxEntry(path, outcome)

    def find(self, turn: Turn) -> OutboxEntry | None:
        """The stored outcome of this very turn, or None."""
        path = self._path_of(turn)
        try:
            stored = loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, json.JSONDecodeError):
            return None
        if not isinstance(stored, dict) or stored.get("fingerprint") != turn.fingerprint:
            return None
        outcome = _BY_WORD[stored["outcome"]](stored.get("payload", ABSENT), stored["role"])
        return OutboxEntry(path, outcome)

    def discard(self, entry: OutboxEntry) -> None:
        """The kernel has it."""
        entry.path.unlink(missing_ok=True)

    def keep_aside(self, entry: OutboxEntry) -> Path | None:
        """It can no longer be delivered: move it where a person can find it.

        Returns:
            Where it is now; None if a worker that shares the outbox has delivered it meanwhile.
        """
        kept = make_private_folder(self._kept_folder) / entry.path.name
        try:
            entry.path.replace(kept)
        except FileNotFoundError:
            return None
        return kept

    def _path_of(self, turn: Turn) -> Path:
        return self._folder / f"{turn.ref.turn_id}.{turn.fingerprint}.json"

    def _write(self, path: Path, data: bytes) -> None:
        make_private_folder(self._folder)
        self._make_room(len(data))
        whole = path.with_suffix(f".{os.getpid()}.tmp")
        write_private(whole, data, sync=True)
        whole.replace(path)
        _sync_folder(self._folder)

    def _make_room(self, needed: int) -> None:
        used = sum(size for _, size in _files_below(self._folder))
        for path, size in sorted(_files_below(self._kept_folder), key=lambda file: file[0].stat().st_mtime):
            if used + needed <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            used -= size
        if used + needed > self._most_bytes:
            raise OutboxFull(f"{self._folder} holds {used} bytes; {needed} more are over {self._most_bytes}")


def _facts_of(turn: Turn, outcome: Closed) -> dict[str, Any]:
    facts = {
        "fingerprint": turn.fingerprint,
        "kernel": turn.kernel.base_url,
        "agent": str(turn.agent),
        "turn_id": turn.ref.turn_id,
        "outcome": word_for(outcome),
        "role": outcome.role,
    }
    return facts if outcome.payload is ABSENT else {**facts, "payload": outcome.payload}


def _files_below(folder: Path) -> list[tuple[Path, int]]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                found.append((path, path.stat().st_size))
        except FileNotFoundError:  # another process delivered it
            continue
    return found


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
