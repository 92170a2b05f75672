"""Processes that are started, killed, paused and started again, and never forgotten.

Reads /proc: the soak runs on Linux.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, field, frozen


@frozen
class Alive:
    """A process; its start time tells it from a later one of the same number."""

    pid: int
    started: str


def _stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(process: Alive) -> bool:
    """Whether it still runs; a zombie does not."""
    stat = _stat_of(process.pid)
    return stat is not None and stat[19] == process.started and stat[0] != "Z"


def _all() -> dict[int, list[str]]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid: stat for pid in pids if (stat := _stat_of(pid)) is not None}


def descendants(pid: int) -> list[Alive]:
    """The process, its children, and theirs."""
    stats = _all()
    found = [pid] if pid in stats else []
    for parent in found:
        found += [child for child, stat in stats.items() if int(stat[1]) == parent]
    return [Alive(one, stats[one][19]) for one in found]


def marked(mark: str) -> list[Alive]:
    """The processes that have `mark`, as NAME=value, in their environment."""
    found = []
    for pid, stat in _all().items():
        with suppress(OSError):
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(Alive(pid, stat[19]))
    return found


def describe(process: Alive) -> str:
    """Its number, its state, and what it runs."""
    with suppress(OSError):
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        return f"{process.pid} {(_stat_of(process.pid) or ['gone'])[0]} {' '.join(words)}"
    return f"{process.pid} gone"


def signal_all(processes: list[Alive], number: signal.Signals) -> None:
    """Send a signal to those that still are."""
    for process in processes:
        if is_alive(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def up_file(logs: Path, incarnation: str) -> Path:
    """The file by which a worker says that it listens to signals."""
    return logs / f"{incarnation}.up"


@define(eq=False)
class Servant:
    """A process of the stage: a kernel or a worker, in one incarnation after another.

    Args:
        name: what the report calls it.
        argv: how it is started.
        environ: its environment; SOAK_WORKER is added, `<name>.<number of the incarnation>`.
        logs: the folder in which its output goes.

    Attributes:
        left: when an incarnation ended that nobody had ended, with its exit status.
    """

    name: str
    argv: list[str]
    environ: Mapping[str, str]
    logs: Path
    left: list[tuple[float, int]] = field(factory=list)
    is_busy: bool = False
    number: int = 0
    _is_ending: bool = False
    _process: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None

    @property
    def incarnation(self) -> str:
        """The present incarnation's name."""
        return f"{self.name}.{self.number}"

    @property
    def pid(self) -> int:
        """The present incarnation's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether the present incarnation, a worker, has said that it listens to signals."""
        return up_file(self.logs, self.incarnation).exists()

    async def start(self) -> None:
        """Begin the next incarnation."""
        self.number += 1
        self._is_ending = False
        with (self.logs / f"{self.incarnation}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environ, "SOAK_WORKER": self.incarnation},
            )
        self._watch = asyncio.create_task(self._await_end(self._process))

    async def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it, and wait for the end; returns the exit status."""
        assert self._process is not None
        assert self._watch is not None
        self._is_ending = True
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._watch
        return self._process.returncode or 0

    async def _await_end(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if not self._is_ending:
            self.left.append((time.monotonic(), status))
