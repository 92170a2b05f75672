"""Store results on disk until the kernel has them.

A result is written and synced before the first request that settles it. If the answer never comes and the
turn is claimed again, by this worker or another that shares the folder, the stored result is delivered and
the handler does not run again.

A result has a file named after its turn's fingerprint. Small results that are written at the same moment
share a file (batch_files.py). Files appear by a rename, so a file is either complete or absent.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from attrs import evolve, frozen

from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.handlers.files import make_private_folder
from cgworker.outcome import Closed, Failed, Stopped, Succeeded, word_for
from cgworker.private import write_private
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef
from cgworker.worker.batching.batcher import CallBatcher, loop_local
from cgworker.worker.outbox.batch_files import SUFFIX, BatchFiles, Stored, batch_files_in, read_line

T = TypeVar("T")
U = TypeVar("U")

_LEFT_SECONDS = 3600.0
_MAX_SHARED_BYTES = 8192  # results in shared files are also held in memory

_BY_WORD: dict[str, type[Closed]] = {"succeeded": Succeeded, "failed": Failed, "stopped": Stopped}


class OutboxFull(CommonGroundError):
    """The outbox has reached its size limit: deliver its results, or remove dead letters from it."""

    code = "outbox_full"


@frozen
class OutboxEntry:
    """A result on disk: its file, its turn and its outcome."""

    path: Path
    outcome: Closed
    turn_id: str
    fingerprint: str
    attempt: int

    @property
    def own_name(self) -> str:
        """The name of its file if it does not share one."""
        return f"{self.turn_id}.{self.fingerprint}.json"

    @property
    def is_shared(self) -> bool:
        """Whether its file holds other results too."""
        return self.path.suffix == SUFFIX


@frozen
class _Result:
    """A result to be written, as a line of JSON."""

    own_name: str
    fingerprint: str
    line: bytes


class Outbox:
    """Stores results on disk.

    Args:
        folder: its folder, which is made when needed, with mode 0700.
        max_bytes: the most bytes it may hold. Dead letters count, and are removed first when it is full.
        on_trouble: called when a result cannot be written.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, on_trouble: Callable[[OSError], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._on_trouble = on_trouble
        self._max_bytes = max_bytes

    @property
    def _dead_letters_folder(self) -> Path:
        return self._folder / "kept"

    # ------------------------------------------------------------ one result

    async def put(self, turn: Turn, outcome: Closed) -> OutboxEntry:
        """Store an outcome. It is synced to the disk when this returns.

        Raises:
            OutboxFull: it would exceed its size limit.
            OSError: the folder cannot be written.
        """
        entry = OutboxEntry(self._folder, outcome, turn.ref.turn_id, turn.fingerprint, turn.attempt)
        result = _Result(entry.own_name, turn.fingerprint, dumps(_facts_of(turn, entry)) + b"\n")
        try:
            return evolve(entry, path=await self._writing(result))
        except OSError as unwritable:
            self._on_trouble(unwritable)
            raise

    def find(self, turn: Turn, *, since: float = math.inf) -> OutboxEntry | None:
        """Find the stored outcome of a turn; None if there is none.

        Args:
            turn: the turn.
            since: when its claim arrived, on `lease.monotonic`. An earlier holder had stored its result by
                then, so one scan of the folder serves all turns claimed together. By default it is now.
        """
        own, files = f"{turn.ref.turn_id}.{turn.fingerprint}.json", self._batch_files
        if files.has_file(own, since=since):
            stored = _read_own(self._folder / own)
            if stored.get("fingerprint") == turn.fingerprint:
                return _entry_of(self._folder / own, stored)
        found = files.find(turn.fingerprint, since=since)
        return None if found is None else _entry_of(*found)

    def waiting(self, kernel_url: str, agent: AgentRef) -> list[OutboxEntry]:
        """Return an agent's results that the kernel does not have yet, without the dead letters."""
        of_agent = {"kernel": kernel_url, "agent": str(agent)}.items()
        own = [(path, _read_own(path)) for path in self._own_files()]
        shared = [(path, stored) for path, group in self._batch_files.waiting() for stored in group]
        found = [_entry_of(path, stored) for path, stored in own + shared if of_agent <= stored.items()]
        return [entry for entry in found if entry is not None]

    def waiting_count(self) -> int:
        """Count the results that the kernel does not have yet; dead letters are not counted."""
        return sum(1 for _ in self._own_files()) + sum(len(group) for _, group in self._batch_files.waiting())

    def tidy(self) -> None:
        """Remove useless files that a killed worker has left in the folder."""
        for path in self._folder.glob("*.tmp"):
            with suppress(OSError):  # another process tidies as well
                if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                    path.unlink()
        for path in self._batch_files.delivered():
            path.unlink(missing_ok=True)

    def _own_files(self) -> Iterable[Path]:
        return self._folder.glob("*.json")

    @cached_property
    def _batch_files(self) -> BatchFiles:
        return batch_files_in(self._folder)

    async def discard(self, entry: OutboxEntry) -> None:
        """Remove a result that the kernel has."""
        await self._discarding(entry)

    def dead_letter(self, entry: OutboxEntry) -> Path | None:
        """Move a result that can no longer be delivered to the dead letters, the folder `kept`.

        Returns:
            The path of the result, which is the old one if it could not be moved; None if another worker
            that shares the outbox has delivered it meanwhile.
        """
        try:
            return self._move_to_dead_letters(entry)
        except OSError as immovable:
            logger.warning("%s: a dead letter could not be moved: %s", entry.path, immovable)
            return entry.path

    def _move_to_dead_letters(self, entry: OutboxEntry) -> Path | None:
        kept = make_private_folder(self._dead_letters_folder) / entry.own_name
        if not entry.is_shared:
            try:
                return entry.path.replace(kept)
            except FileNotFoundError:
                return None
        found = self._batch_files.find(entry.fingerprint)
        if found is None:
            return None
        write_private(kept, dumps(found[1]) + b"\n", sync=True)
        self._batch_files.mark_delivered(entry.path, [entry.fingerprint])
        return kept

    # ------------------------------------------------------------ the disk

    @cached_property
    def _writing(self) -> CallBatcher[_Result, Path]:
        return self._shared("writing", self._write_all)

    @cached_property
    def _discarding(self) -> CallBatcher[OutboxEntry, None]:
        return self._shared("discarding", self._discard_all)

    def _shared(
        self, verb: str, make: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
    ) -> CallBatcher[Any, Any]:
        """Share a batcher with the workers of this event loop that use the same outbox."""
        return loop_local((Outbox, verb, self._folder, self._max_bytes), lambda: CallBatcher(make))

    async def _write_all(self, results: Sequence[_Result]) -> Sequence[Path | Exception]:
        return await _in_own_thread(self._write_files, results)

    async def _discard_all(self, entries: Sequence[OutboxEntry]) -> Sequence[None]:
        return await _in_own_thread(self._discard_files, entries)

    def _write_files(self, results: Sequence[_Result]) -> list[Path | Exception]:
        """Write results, the small ones into one file; if that fails, each to a file of its own."""
        small = [result for result in results if _is_small(result)]
        together: Path | Exception | None = self._try_to_write(small) if len(small) > 1 else None
        return [
            together if isinstance(together, Path) and _is_small(result) else self._try_to_write([result])
            for result in results
        ]

    def _try_to_write(self, results: Sequence[_Result]) -> Path | Exception:
        try:
            return self._write(results)
        except (OSError, OutboxFull) as unwritable:
            return unwritable

    def _write(self, results: Sequence[_Result]) -> Path:
        make_private_folder(self._folder)
        data = b"".join(result.line for result in results)
        self._make_room(len(data))
        path = self._folder / (results[0].own_name if len(results) == 1 else uuid.uuid4().hex + SUFFIX)
        whole = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            write_private(whole, data, sync=True)
            whole.replace(path)
        except OSError:
            with suppress(OSError):
                whole.unlink()
            raise
        _sync_folder(self._folder)
        if len(results) > 1:
            self._batch_files.remember(path, {result.fingerprint: result.line for result in results})
        return path

    def _discard_files(self, entries: Sequence[OutboxEntry]) -> list[None]:
        delivered: dict[Path, list[str]] = {}
        for entry in entries:
            if entry.is_shared:
                delivered.setdefault(entry.path, []).append(entry.fingerprint)
            else:
                delivered.setdefault(entry.path, [])
        for path, fingerprints in delivered.items():
            try:
                self._discard_from(path, fingerprints)
            except OSError as unwritable:  # the sweeper finds it later
                logger.warning("%s: what the kernel has could not be removed: %s", path, unwritable)
        return [None for _ in entries]

    def _discard_from(self, path: Path, fingerprints: Sequence[str]) -> None:
        if fingerprints:
            self._batch_files.mark_delivered(path, fingerprints)
        else:
            path.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        kept = _files_in(self._dead_letters_folder)
        used = sum(file.size for file in [*_files_in(self._folder), *kept])
        for file in sorted(kept, key=lambda file: file.changed_at):
            if used + needed <= self._max_bytes:
                break
            file.path.unlink(missing_ok=True)
            used -= file.size
        if used + needed > self._max_bytes:
            raise OutboxFull(f"{self._folder} holds {used} bytes; {needed} more are over {self._max_bytes}")


async def _in_own_thread(work: Callable[[T], U], given: T) -> U:
    """Run in a thread outside the shared limit: blocking calls of handlers must not delay the disk."""
    return await anyio.to_thread.run_sync(work, given, limiter=anyio.CapacityLimiter(1))


def _is_small(result: _Result) -> bool:
    return len(result.line) <= _MAX_SHARED_BYTES


def _facts_of(turn: Turn, entry: OutboxEntry) -> dict[str, Any]:
    outcome = entry.outcome
    facts = {
        "fingerprint": entry.fingerprint,
        "kernel": turn.kernel.base_url,
        "agent": str(turn.agent),
        "turn_id": entry.turn_id,
        "attempt": entry.attempt,
        "outcome": word_for(outcome),
        "role": outcome.role,
    }
    return facts if outcome.payload is ABSENT else {**facts, "payload": outcome.payload}


def _entry_of(path: Path, stored: Stored) -> OutboxEntry | None:
    """Return the result; None if the file is not one, as when another version or a person wrote it."""
    try:
        outcome = _BY_WORD[stored["outcome"]](stored.get("payload", ABSENT), stored["role"])
        return OutboxEntry(path, outcome, stored["turn_id"], stored["fingerprint"], stored.get("attempt", 1))
    except (KeyError, TypeError):
        return None


def _read_own(path: Path) -> Stored:
    """Read a file with one result; empty if it is gone or incomplete."""
    try:
        return read_line(path.read_bytes())
    except OSError:
        return {}


@frozen
class _OnDisk:
    """A file with its size and time of change."""

    path: Path
    size: int
    changed_at: float


def _files_in(folder: Path) -> list[_OnDisk]:
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process delivered it
                if entry.is_file(follow_symlinks=False):
                    told = entry.stat(follow_symlinks=False)
                    found.append(_OnDisk(Path(entry.path), told.st_size, told.st_mtime))
    return found


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the rename is durable, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
