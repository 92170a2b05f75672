"""Run a resident command: it gets turns as JSON lines on its stdin, and answers on its stdout.

docs/reference/command-contract.md explains the lines to authors of commands.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from attrs import field, frozen

from cgworker.handlers.base_command import BaseCommandHandler, hand_back_for_room
from cgworker.handlers.child import unwrapping_group
from cgworker.handlers.resident_process import ResidentProcess
from cgworker.outcome import Outcome
from cgworker.turn import Turn


@frozen
class ResidentCommandHandler(BaseCommandHandler):
    """Runs turns on a command that stays in memory, which saves the start of a process for each.

    A process works one turn at a time. A worker starts its processes when there are turns for them, and ends
    them with its run. A crash, a line that is no answer, or a command that hangs costs one turn; the process
    is replaced. Called outside of a worker, the handler starts a process for the one turn.

    Args:
        argv: the command and its arguments; no shell interprets them.
        cwd: its working directory; the default is that of this process.
        count: the most processes; further turns wait in order. The default, None, is one for each turn that
            runs at once.
        context_after_turn_seq: leave the records up to this number out of its context; the default is 0.
        context_limit: the most records in its context; the default, None, is all.
        environment: how its environment is made; it never holds secrets of CommonGround.
        final_record_role: the role of the final record; the default is "deliverable".
        max_payload_bytes: a larger result fails the turn with `result_too_large`.
        on_line: receives each line of its stderr; the default writes it to stderr.
    """

    count: int | None = field(default=None, kw_only=True)
    _pool: _Pool | None = field(init=False, default=None, repr=False, eq=False)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ResidentCommandHandler]:
        """Yield the handler with processes that stay from turn to turn, and end them after the block.

        A worker does this for its run.
        """
        if self._pool is not None:
            yield self
            return
        with unwrapping_group():
            async with anyio.create_task_group() as host:
                pool = _Pool(self, host)
                staying = copy.copy(self)
                object.__setattr__(staying, "_pool", pool)
                try:
                    yield staying
                finally:
                    pool.close()

    @property
    def process_ids(self) -> frozenset[int]:
        """The ids of the processes that run now; empty if the handler is not opened."""
        return frozenset() if self._pool is None else self._pool.process_ids

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the command on a turn, and return its outcome.

        Args:
            turn: the turn.

        Raises:
            CommandNotFound: the command does not exist any more.
        """
        if self._pool is None:
            async with self.opened() as staying:
                return await staying(turn)
        try:
            return await self._pool.work(turn)
        except OSError as full:
            return hand_back_for_room(turn, full)


class _Pool:
    """The processes of one run of a worker."""

    def __init__(self, handler: ResidentCommandHandler, host: anyio.abc.TaskGroup) -> None:
        self._handler = handler
        self._host = host
        self._processes: set[ResidentProcess] = set()
        self._idle: list[ResidentProcess] = []
        self._slots = anyio.Semaphore(
            sys.maxsize if handler.count is None else handler.count, fast_acquire=True
        )

    @property
    def process_ids(self) -> frozenset[int]:
        """The ids of the processes that run now."""
        return frozenset(each.pid for each in self._processes if each.pid is not None)

    async def work(self, turn: Turn) -> Outcome:
        """Give the turn to a process once one is free: turns wait in order, unless they are interrupted."""
        async with self._slots:
            with anyio.CancelScope(shield=True):  # from here on, an interruption is told to the command first
                process = self._idle_process() or ResidentProcess(self._handler)
                given = process.take_turn(turn)
                if process not in self._processes:
                    await self._host.start(self._follow, process, turn)
                try:
                    outcome = await process.work(given)
                finally:
                    if process.is_fit:
                        self._idle.append(process)
            return outcome

    def _idle_process(self) -> ResidentProcess | None:
        while self._idle:
            if (process := self._idle.pop()).is_fit:
                return process
        return None

    async def _follow(
        self, process: ResidentProcess, turn: Turn, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        self._processes.add(process)
        try:
            await process.live(turn, task_status=task_status)
        finally:
            self._processes.discard(process)

    def close(self) -> None:
        """Let all processes end; the host waits for them."""
        for process in list(self._processes):
            process.end()
