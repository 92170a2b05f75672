"""Turn the JSON lines of a command's progress file into process records (difference 25)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from cgworker.errors import CommonGroundError, InvalidRequest, InvariantError, PayloadTooLarge
from cgworker.events import logger
from cgworker.handlers.files import FileUnusable, read_from
from cgworker.lease import Reason
from cgworker.turn import Turn
from cgworker.wire.converter import loads

POLL_SECONDS = 0.25
MAX_LINE_BYTES = 256 * 1024
_MAX_FILE_BYTES = 64 * 1024 * 1024
_MAX_RECORDS_PER_POLL = 20
_MAX_RECORDS = 10_000
_PIECE_BYTES = 1024 * 1024
_REST_SECONDS = 10.0
_REST_WHEN_INTERRUPTED_SECONDS = 2.0


class ProgressRecorder:
    """Appends what a command tells of its progress as process records: 10,000 for an attempt at most.

    Args:
        turn: the turn that gets the records.

    Attributes:
        is_over: whether nothing more is recorded.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._recorded_count = 0
        self._complained = False
        self.is_over: bool = False

    async def append(self, payload: object) -> None:
        """Append a record; leave it out if it is one too many, or if the kernel does not take it.

        Args:
            payload: any JSON value.
        """
        if self._recorded_count == _MAX_RECORDS:
            self.end("too many lines")
            return
        self._recorded_count += 1
        try:
            await self._turn.record(payload)
        except (InvalidRequest, InvariantError, PayloadTooLarge) as refused:  # only this line is at fault
            self.complain(str(refused))
        except TypeError as unfit:  # JSON that was read, but is nested too deeply to be written
            self.complain(str(unfit))
        except CommonGroundError as over:  # the claim is lost, or the kernel stays unreachable
            self.end(str(over))

    def end(self, reason: str) -> None:
        """Record nothing more.

        Args:
            reason: what the log says.
        """
        self.is_over = True
        self.complain(reason)

    def complain(self, problem: str) -> None:
        """Log that something was left out, once for an attempt.

        Args:
            problem: why.
        """
        if not self._complained:
            self._complained = True
            logger.warning("%s: progress left out: %s", self._turn.ref, problem)


class ProgressFile:
    """Follows the file from where it was read last; a line counts once its newline is written.

    Limits: 256 KiB a line, 64 MiB a file, 80 records a second, 10,000 records an attempt. Lines that
    are over a limit or not JSON are left out, and the log says so.

    Args:
        path: the file that the command appends to.
        turn: the turn whose records the lines become.
        mask: hides secrets in a line; records are public.
    """

    def __init__(self, path: Path | str, turn: Turn, mask: Callable[[str], str]) -> None:
        self._path = path
        self._turn = turn
        self._mask = mask
        self._recorder = ProgressRecorder(turn)
        self._taken_bytes = 0
        self._is_inside_long_line = False

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Record new lines while the block runs, now and every quarter of a second.

        At the end of the block, requests under way get as much time as the rest of the file: the kernel could
        still carry out one that was given up, and that after the next one.
        """
        ended = anyio.Event()
        async with anyio.create_task_group() as background:
            background.start_soon(self._follow, ended)
            yield
            ended.set()
            background.cancel_scope.deadline = anyio.current_time() + self._rest_seconds
        if background.cancel_scope.cancelled_caught:
            self._recorder.end("there was more than could be recorded in time")

    async def _follow(self, ended: anyio.Event) -> None:
        while not (self._recorder.is_over or ended.is_set()):
            await self._record_new(_MAX_RECORDS_PER_POLL)
            with anyio.move_on_after(POLL_SECONDS):
                await ended.wait()

    async def record_rest(self) -> None:
        """Record the rest of the file after the command's end, for at most 10 s. A lost lease ends it."""
        interruption = self._turn.interruption
        if interruption is not None and interruption.reason is Reason.LEASE_LOST:
            return
        if not self._is_there:  # most commands write no progress
            return
        with anyio.move_on_after(self._rest_seconds) as recording:
            while not self._recorder.is_over and await self._record_new(_MAX_RECORDS_PER_POLL):
                pass
        if recording.cancelled_caught:
            self._recorder.complain("there was more than could be recorded in time")

    @property
    def _rest_seconds(self) -> float:
        return _REST_WHEN_INTERRUPTED_SECONDS if self._turn.interruption else _REST_SECONDS

    @property
    def _is_there(self) -> bool:
        return os.path.lexists(self._path)

    async def _record_new(self, most: int) -> bool:
        """Record up to `most` new lines, and return whether there were any."""
        before = self._taken_bytes
        for line in self._new_lines(most):
            await self._record(line)
        return self._taken_bytes > before

    def _new_lines(self, most: int) -> Iterator[bytes]:
        *lines, rest = self._new_piece().split(b"\n")
        for line in lines[:most]:
            self._taken_bytes += len(line) + 1
            if not self._is_inside_long_line:
                yield line
            self._is_inside_long_line = False
        if not lines and len(rest) > MAX_LINE_BYTES:
            self._recorder.complain("a line is too long")
            self._taken_bytes += len(rest)
            self._is_inside_long_line = True

    def _new_piece(self) -> bytes:
        if self._taken_bytes >= _MAX_FILE_BYTES:
            self._recorder.end(f"there is more than {_MAX_FILE_BYTES} bytes of it")
            return b""
        try:
            return read_from(self._path, self._taken_bytes, _PIECE_BYTES)
        except FileNotFoundError:
            return b""
        except FileUnusable as unusable:
            self._recorder.complain(str(unusable))
            return b""

    async def _record(self, line: bytes) -> None:
        if self._recorder.is_over or not line.strip():
            return
        if len(line) > MAX_LINE_BYTES:
            self._recorder.complain("a line is too long")
            return
        try:
            payload = loads(self._mask(line.decode()))
        except (ValueError, RecursionError) as broken:
            self._recorder.complain(f"a line is not JSON: {broken}")
            return
        await self._recorder.append(payload)
