"""Store results on disk until the kernel has them.

The write of a result begins no later than the first request that settles it, and it is over before that
request is repeated or given up (settle.py). If the answer never comes and the turn is claimed again, by this
worker or another that shares the folder, the stored result is delivered and the handler does not run again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from attrs import define, evolve

from cgworker.events import logger
from cgworker.handlers.files import make_private_folder
from cgworker.outcome import Closed, Failed, Stopped, Succeeded, word_for
from cgworker.private import write_private
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker.batching.batcher import CallBatcher, loop_local
from cgworker.worker.outbox.batch_files import SUFFIX, BatchFiles, Stored, batch_files_in, read_line
from cgworker.worker.outbox.files import OutboxFiles
from cgworker.worker.outbox.writer import OutboxWriter, PendingWrite, ResultLine

T = TypeVar("T")
U = TypeVar("U")

_LEFT_SECONDS = 3600.0
_FLUSH_SECONDS = 10.0

_BY_WORD: dict[str, type[Closed]] = {"succeeded": Succeeded, "failed": Failed, "stopped": Stopped}


@define
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


class StoredResult:
    """A result on its way to the disk. Made by `Outbox.begin`: `wait` for it, or have it dropped.

    Attributes:
        size: how many bytes it has, as JSON.
        write: its write to the disk.
    """

    def __init__(self, writer: OutboxWriter, entry: OutboxEntry, line: bytes, delay_seconds: float) -> None:
        self.size: int = len(line)
        self._writer = writer
        self._entry = entry
        self.write: PendingWrite = writer.begin(
            ResultLine(entry.own_name, entry.fingerprint, line), delay_seconds
        )

    async def wait(self) -> OutboxEntry:
        """Wait until the result is on the disk, without the delay that was asked for, and return its entry.

        Raises:
            OutboxFull: it would exceed the outbox's size limit.
            OSError: the folder cannot be written.
        """
        if not self.write.is_over:
            await _in_own_thread(self._writer.wait, self.write)
        if self.write.error is not None:
            raise self.write.error
        assert self.write.path is not None  # it is over
        return evolve(self._entry, path=self.write.path)


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
        self._dropped: deque[tuple[TurnRef, PendingWrite]] = deque()

    @property
    def _dead_letters_folder(self) -> Path:
        return self._folder / "kept"

    # ------------------------------------------------------------ one result

    def begin(self, turn: Turn, outcome: Closed, *, delay_seconds: float = 0.0) -> StoredResult:
        """Begin to store an outcome.

        Args:
            turn: the turn.
            outcome: its outcome.
            delay_seconds: begin to write after so many seconds, or as soon as a caller waits for it.

        Raises:
            RuntimeError: no thread could be started.
        """
        entry = OutboxEntry(self._folder, outcome, turn.ref.turn_id, turn.fingerprint, turn.attempt)
        return StoredResult(self._writer, entry, dumps(_facts_of(turn, entry)) + b"\n", delay_seconds)

    async def put(self, turn: Turn, outcome: Closed) -> OutboxEntry:
        """Store an outcome. It is synced to the disk when this returns.

        Raises:
            OutboxFull: it would exceed its size limit.
            OSError: the folder cannot be written.
        """
        return await self.wait(self.begin(turn, outcome))

    async def wait(self, result: StoredResult) -> OutboxEntry:
        """Wait as `StoredResult.wait` does, and report trouble with the disk."""
        try:
            return await result.wait()
        except OSError as unwritable:
            self._on_trouble(unwritable)
            raise

    def drop(self, turn: TurnRef, result: StoredResult) -> None:
        """Remove the result of a turn, since the kernel has it; this does not wait for the disk."""
        self._writer.drop(result.write)
        self._dropped.append((turn, result.write))

    def report_failures(self) -> None:
        """Report the results that could not be stored, and were dropped before that was known."""
        while self._dropped and self._dropped[0][1].is_over:
            turn, write = self._dropped.popleft()
            if write.error is None:
                continue
            logger.error("%s: the result could not be stored: %s", turn, write.error)
            if isinstance(write.error, OSError):
                self._on_trouble(write.error)

    async def flush(self) -> None:
        """Wait until all dropped results are removed, ten seconds at most: the disk may hang."""
        await anyio.to_thread.run_sync(
            self._writer.flush, _FLUSH_SECONDS, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True
        )
        self.report_failures()

    def find(self, turn: Turn, *, since: float = math.inf) -> OutboxEntry | None:
        """Find the stored outcome of a turn; None if there is none.

        Args:
            turn: the turn.
            since: when its claim arrived, on `lease.monotonic`. An earlier holder had stored its result by
                then, so one scan of the folder serves all turns claimed together. By default it is now.
        """
        own, files = f"{turn.ref.turn_id}.{turn.fingerprint}.json", self._batch_files
        if not files.may_have(own, turn.fingerprint, since=since):
            return None
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
    def _files(self) -> OutboxFiles:
        return OutboxFiles(
            self._folder, self._dead_letters_folder, self._batch_files, max_bytes=self._max_bytes
        )

    @cached_property
    def _writer(self) -> OutboxWriter:
        """The writer, shared with the workers of this event loop that use the same outbox."""
        files = self._files
        return self._shared("writing", lambda: OutboxWriter(files.write_all, files.remove_all))

    @cached_property
    def _discarding(self) -> CallBatcher[OutboxEntry, None]:
        return self._shared("discarding", lambda: CallBatcher(self._discard_all))

    def _shared(self, verb: str, make: Callable[[], T]) -> T:
        return loop_local((Outbox, verb, self._folder, self._max_bytes), make)

    async def _discard_all(self, entries: Sequence[OutboxEntry]) -> Sequence[None]:
        return await _in_own_thread(self._discard_files, entries)

    def _discard_files(self, entries: Sequence[OutboxEntry]) -> list[None]:
        self._files.remove_all([(entry.path, entry.fingerprint) for entry in entries])
        return [None for _ in entries]


async def _in_own_thread(work: Callable[[T], U], argument: T) -> U:
    """Run in a thread outside the shared limit: blocking calls of handlers must not delay the disk."""
    return await anyio.to_thread.run_sync(work, argument, limiter=anyio.CapacityLimiter(1))


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
