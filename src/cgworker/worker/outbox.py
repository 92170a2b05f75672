"""Where a result waits on disk until the kernel has it.

A result is written here, and is on the disk, before the first call that settles it. If the answer never
comes and the turn is claimed again, by this worker or by one that shares the folder, the stored result is
delivered and the handler is not run again.

A result has a file named by its turn's fingerprint. Results that wait for the disk at the same moment share
one, since it is the disk that takes time: a line each, and another line when the kernel has it. Files appear
by a rename, so they are whole or not there, and several processes can share the folder without talking to
each other: whoever strikes a file's last result removes it. Only such strikes are appended; one that is lost,
as two at once may be on a network folder, leaves a file behind and nothing else.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import evolve, frozen

from cgworker.errors import CommonGroundError
from cgworker.handlers.files import make_private_folder, write_private
from cgworker.outcome import Closed, Failed, Stopped, Succeeded, word_for
from cgworker.turn import Turn
from cgworker.wire.converter import ABSENT, dumps, loads
from cgworker.worker.combining import Combining, shared

_GROUP = ".group"
_MOST_SHARED_BYTES = 65536  # a larger result has a file of its own: shared ones are read to find a turn's

_BY_WORD: dict[str, type[Closed]] = {"succeeded": Succeeded, "failed": Failed, "stopped": Stopped}


class OutboxFull(CommonGroundError):
    """The outbox holds as much as it may; deliver or remove what is kept aside in it."""

    code = "outbox_full"


@frozen
class OutboxEntry:
    """A result on disk: in which file, and as which turn's."""

    path: Path
    outcome: Closed
    turn_id: str
    fingerprint: str

    @property
    def own_name(self) -> str:
        """What its file is called if it has one of its own."""
        return f"{self.turn_id}.{self.fingerprint}.json"

    @property
    def is_shared(self) -> bool:
        """Whether others are in its file."""
        return self.path.suffix == _GROUP


@frozen
class _Result:
    """A result on its way to the disk, as a line."""

    own_name: str
    line: bytes


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

    # ------------------------------------------------------------ one result

    async def put(self, turn: Turn, outcome: Closed) -> OutboxEntry:
        """Store the outcome; it is on the disk when this returns.

        Raises:
            OutboxFull: there is no room.
            OSError: the folder cannot be written.
        """
        entry = OutboxEntry(self._folder, outcome, turn.ref.turn_id, turn.fingerprint)
        result = _Result(entry.own_name, dumps(_facts_of(turn, outcome)) + b"\n")
        return evolve(entry, path=await self._writing()(result))

    def find(self, turn: Turn) -> OutboxEntry | None:
        """The stored outcome of this very turn, or None."""
        wanted = turn.fingerprint
        for path in (self._folder / f"{turn.ref.turn_id}.{wanted}.json", *self._shared_files()):
            stored = _results_in(path, wanted).get(wanted)
            if stored is not None:
                outcome = _BY_WORD[stored["outcome"]](stored.get("payload", ABSENT), stored["role"])
                return OutboxEntry(path, outcome, turn.ref.turn_id, wanted)
        return None

    def discard(self, entry: OutboxEntry) -> None:
        """The kernel has it."""
        if entry.is_shared:
            _strike(entry)
        else:
            entry.path.unlink(missing_ok=True)

    def keep_aside(self, entry: OutboxEntry) -> Path | None:
        """It can no longer be delivered: move it where a person can find it.

        Returns:
            Where it is now; None if a worker that shares the outbox has delivered it meanwhile.
        """
        kept = make_private_folder(self._kept_folder) / entry.own_name
        if not entry.is_shared:
            try:
                return entry.path.replace(kept)
            except FileNotFoundError:
                return None
        stored = _results_in(entry.path, entry.fingerprint).get(entry.fingerprint)
        if stored is None:
            return None
        write_private(kept, dumps(stored) + b"\n", sync=True)
        _strike(entry)
        return kept

    def waiting_count(self) -> int:
        """How many results the kernel does not have yet; those kept aside are not counted."""
        own = sum(1 for _ in self._folder.glob("*.json"))
        return own + sum(len(_results_in(path)) for path in self._shared_files())

    def _shared_files(self) -> Iterator[Path]:
        return self._folder.glob(f"*{_GROUP}")

    # ------------------------------------------------------------ the disk

    def _writing(self) -> Combining[_Result, Path]:
        """All workers of an event loop that have this outbox wait for the disk together."""
        return shared((Outbox, self._folder, self._most_bytes), lambda: Combining(self._write_all))

    async def _write_all(self, results: Sequence[_Result]) -> Sequence[Path | Exception]:
        return await anyio.to_thread.run_sync(self._write_files, results)

    def _write_files(self, results: Sequence[_Result]) -> list[Path | Exception]:
        """Write them, the small ones into one file; where that fails, each for itself."""
        small = [result for result in results if _is_small(result)]
        together: Path | Exception | None = self._write_or_tell(small) if len(small) > 1 else None
        return [
            together if isinstance(together, Path) and _is_small(result) else self._write_or_tell([result])
            for result in results
        ]

    def _write_or_tell(self, results: Sequence[_Result]) -> Path | Exception:
        try:
            return self._write(results)
        except (OSError, OutboxFull) as unwritable:
            return unwritable

    def _write(self, results: Sequence[_Result]) -> Path:
        make_private_folder(self._folder)
        data = b"".join(result.line for result in results)
        self._make_room(len(data))
        path = self._folder / (results[0].own_name if len(results) == 1 else uuid.uuid4().hex + _GROUP)
        whole = path.with_suffix(f".{os.getpid()}.tmp")
        write_private(whole, data, sync=True)
        whole.replace(path)
        _sync_folder(self._folder)
        return path

    def _make_room(self, needed: int) -> None:
        used = sum(size for _, size in _files_below(self._folder))
        for path, size in sorted(_files_below(self._kept_folder), key=lambda file: file[0].stat().st_mtime):
            if used + needed <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            used -= size
        if used + needed > self._most_bytes:
            raise OutboxFull(f"{self._folder} holds {used} bytes; {needed} more are over {self._most_bytes}")


def _is_small(result: _Result) -> bool:
    return len(result.line) <= _MOST_SHARED_BYTES


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


def _results_in(path: Path, mentioned: str = "") -> dict[str, dict[str, Any]]:
    """By fingerprint, the results of a file that the kernel has not; nothing if it does not mention that."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in data.splitlines() if mentioned.encode() in data else ():
        stored = _read_line(line)
        if "delivered" in stored:
            found.pop(stored["delivered"], None)
        elif "fingerprint" in stored:
            found[stored["fingerprint"]] = stored
    return found


def _read_line(line: bytes) -> dict[str, Any]:
    """A line; nothing if it was torn, as by a crash while it was appended."""
    try:
        stored = loads(line)
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _strike(entry: OutboxEntry) -> None:
    """Note in a shared file that the kernel has the result. It need not be on the disk: a closed turn is
    never claimed again."""
    try:
        descriptor = os.open(entry.path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n" + dumps({"delivered": entry.fingerprint}) + b"\n")
    if not _results_in(entry.path):
        entry.path.unlink(missing_ok=True)


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
