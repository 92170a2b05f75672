"""Keep a process running: start it again when it ends, later each time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio
import anyio.abc
from attrs import frozen

from cgworker.events import logger
from cgworker.handlers.group import ProcessGroup
from cgworker.handlers.guard import guard
from cgworker.provisioning.records import try_lock

_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
_ORPHAN_SECONDS = 5.0  # the guard of a killed provisioner needs 2 s
_POLL_SECONDS = 0.1


@frozen(kw_only=True)
class KeptProcess:
    """A process that is started again when it ends, until `run` is cancelled.

    The process inherits a locked file. As long as it lives, no other provisioner starts one beside it: a
    lock outlives the provisioner that was killed, and ends with the process.

    Args:
        name: names it in the log.
        argv: the program and its arguments.
        environment: its whole environment.
        lock_path: the file that it holds locked, which contains its process id.
        grace_seconds: how long it has to end after SIGTERM.
        first_pause_seconds: how long to wait before it is started again; doubled each time, up to 60 s.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    lock_path: Path
    grace_seconds: float
    first_pause_seconds: float = _FIRST_PAUSE_SECONDS

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Start the process, and again whenever it ends; end it when cancelled.

        Args:
            started: called each time that it was started.
        """
        pause = self.first_pause_seconds
        while True:
            began = time.monotonic()
            status = await self._run_once(started)
            if time.monotonic() - began > _MAX_PAUSE_SECONDS:
                pause = self.first_pause_seconds
            logger.warning("the worker of %s ended with %s; starting it in %g s", self.name, status, pause)
            await anyio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)

    async def _run_once(self, started: Callable[[], None]) -> int | str:
        with self.lock_path.open("a+") as lock:
            await self._end_orphan(lock)
            try:
                process = await anyio.open_process(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None,
                    env=self.environment,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
            except OSError as refused:
                return str(refused)
            lock.truncate(0)
            lock.write(str(process.pid))
            lock.flush()
        # Ours is closed now, but the process still holds the lock.
        with guard.watching(process.pid, None):
            started()
            try:
                return await process.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end(process)

    async def _end(self, process: anyio.abc.Process) -> None:
        group = ProcessGroup(process)
        if process.returncode is None:
            group.ask_to_end()
            with anyio.move_on_after(self.grace_seconds):
                await process.wait()
        await group.end()

    async def _end_orphan(self, lock: IO[str]) -> None:
        """Wait until a process of an earlier provisioner has ended; end it if its guard does not."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while not try_lock(lock):
            if time.monotonic() > deadline:
                lock.seek(0)
                if (pid := lock.read().strip()).isdigit():
                    logger.warning("%s has a worker of an earlier provisioner: ending it", self.name)
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(int(pid), signal.SIGKILL)
                deadline += _ORPHAN_SECONDS
            await anyio.sleep(_POLL_SECONDS)
