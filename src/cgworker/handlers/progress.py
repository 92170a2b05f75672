"""JSON lines that a command appends to its progress file become process records (decision 25)."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.handlers.files import FileUnusable, read_regular
from cgworker.turn import Turn
from cgworker.wire.converter import loads

_LOOK_SECONDS = 0.25
_MOST_LINE_BYTES = 256 * 1024
_MOST_FILE_BYTES = 64 * 1024 * 1024
_MOST_RECORDS_A_LOOK = 20
_MOST_RECORDS = 10_000


class ProgressFile:
    """Follows the file from where it was read last; a line counts once it ends.

    Limits: 256 KiB a line, 64 MiB a file, 80 records a second, 10,000 records an attempt. What is over a
    limit, or no JSON, is left out, and the log says so.
    """

    def __init__(self, path: Path, turn: Turn) -> None:
        self._path = path
        self._turn = turn
        self._read_bytes = 0
        self._recorded_count = 0
        self._complained = False

    async def follow(self) -> None:
        """Record new lines until cancelled."""
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            await self.record_new(_MOST_RECORDS_A_LOOK)

    async def record_new(self, most: int = _MOST_RECORDS) -> None:
        """Record the lines that are complete by now, `most` of them at a time."""
        for line in self._new_lines(most):
            await self._record(line)

    def _new_lines(self, most: int) -> list[bytes]:
        try:
            if os.lstat(self._path).st_size <= self._read_bytes:
                return []
            data = read_regular(self._path, _MOST_FILE_BYTES)[self._read_bytes :]
        except FileNotFoundError:
            return []
        except FileUnusable as unusable:
            self._complain(str(unusable))
            return []
        lines = data.split(b"\n")[:-1][:most]
        self._read_bytes += sum(len(line) + 1 for line in lines)
        return lines

    async def _record(self, line: bytes) -> None:
        if not line.strip():
            return
        if len(line) > _MOST_LINE_BYTES or self._recorded_count >= _MOST_RECORDS:
            self._complain("a line is too long" if len(line) > _MOST_LINE_BYTES else "too many lines")
            return
        try:
            payload = loads(line)
        except (ValueError, RecursionError) as broken:
            self._complain(f"a line is not JSON: {broken}")
            return
        self._recorded_count += 1
        try:
            await self._turn.record(payload)
        except CommonGroundError as refused:
            self._complain(str(refused))

    def _complain(self, problem: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("%s: progress left out: %s", self._turn.ref, problem)
