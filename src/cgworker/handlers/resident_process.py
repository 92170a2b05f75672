"""A process of a resident command: it gets turns as lines on its stdin, and answers on its stdout."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from cgworker.events import logger
from cgworker.handlers.base_command import BaseCommandHandler, bounded, end_in_steps, hand_back_after_guard
from cgworker.handlers.child import ChildProcess, start_child
from cgworker.handlers.guard import guard
from cgworker.handlers.process import WritePipe
from cgworker.handlers.progress import POLL_SECONDS
from cgworker.handlers.resident_turn import BadLine, ResidentTurn, failure, outcome_of_exit, too_large
from cgworker.handlers.temporary import temporary_folder
from cgworker.lease import Interruption
from cgworker.outcome import Failed, Outcome
from cgworker.turn import Turn

_LINE_EXTRA_BYTES = 64 * 1024  # of a line, in addition to the largest result
_MAX_STEP = 2**20  # between the ids of two turns: none is guessed, and 2**33 turns stay below 2**53
_GRACE_SECONDS = 1.0  # to end by itself, and again after SIGTERM
_DRAIN_SECONDS = 1.0
_STDERR_SECONDS = 0.01
_PIPE_ENDED = (
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)


class ResidentProcess:
    """One process of a resident command; it works one turn at a time.

    Args:
        handler: the settings of the command.

    Attributes:
        is_fit: whether it may get another turn.
    """

    def __init__(self, handler: BaseCommandHandler) -> None:
        self._handler = handler
        self._number = 0
        self._turn: ResidentTurn | None = None
        self._bad: Failed | None = None
        self._mask: Callable[[str], str] = lambda text: text
        self._show = handler.on_line
        self._child: ChildProcess | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._folder: Path | None = None
        self._must_end = False
        self.is_fit: bool = False

    @property
    def pid(self) -> int | None:
        """Its process id; None before it has started."""
        return None if self._child is None else self._child.pid

    # ------------------------------------------------------------ its turns

    def take_turn(self, turn: Turn) -> ResidentTurn:
        """Take a turn: from now on, what it writes and its end count for this turn.

        Args:
            turn: the turn.

        Returns:
            The turn as `work` takes it.
        """
        self._number += 1 + secrets.randbelow(_MAX_STEP)
        self._turn = given = ResidentTurn(self._number, turn, self._handler)
        self._mask, self._show = given.mask, bounded(self._handler.on_line)
        return given

    async def work(self, given: ResidentTurn) -> Outcome:
        """Give the process a turn that was taken, and return the outcome. An interruption ends it in steps.

        Args:
            given: the turn.

        Raises:
            OSError: a file of the turn cannot be written.
        """
        assert self._child is not None
        assert self._folder is not None
        try:
            line = await given.line(self._folder)
            with guard.under_lease(self._child.pid, given.turn.lease):
                await self._answered(given, line)
        finally:
            if self._turn is given:
                self._turn = None
            given.remove_files()
            if not self.is_fit or given.has_stale_lines:
                self.end()
        if given.error is not None:
            raise given.error
        assert given.outcome is not None
        return await self._with_tail(given.outcome)

    async def _answered(self, given: ResidentTurn, line: bytes) -> None:
        """Send the line and wait for the answer. Most turns are answered before anything else is needed."""
        if self.is_fit:
            self._send_soon(line)
        with given.turn.on_interrupt(given.note_interruption), anyio.move_on_after(POLL_SECONDS):
            await given.news.wait()
        if not given.done.is_set():
            await self._answered_late(given)

    async def _answered_late(self, given: ResidentTurn) -> None:
        """Wait for the answer; pass on messages and, if the turn is interrupted, end the command."""
        async with anyio.create_task_group() as background:

            def begin_to_end(interruption: Interruption) -> None:
                background.start_soon(end_in_steps, self, given.tell_to_stop, given.turn, interruption)

            with given.turn.on_interrupt(begin_to_end):
                await given.write_messages()
                async with given.messages.followed():
                    await given.done.wait()
            background.cancel_scope.cancel()

    async def _with_tail(self, outcome: Outcome) -> Outcome:
        """Add the end of stderr to the report of a failure that the command told itself."""
        if not isinstance(outcome, Failed) or "stderr_tail" in outcome.payload:
            return outcome
        if self.is_fit:
            await anyio.sleep(_STDERR_SECONDS)  # what it wrote before its answer is read by then
        assert self._child is not None
        tail = self._child.tail
        return Failed({**outcome.payload, "stderr_tail": list(tail)}) if tail else outcome

    def ask_to_end(self) -> None:
        """Send SIGTERM to its process group; it gets no other turn."""
        self.is_fit = False
        assert self._child is not None
        self._child.ask_to_end()

    def kill(self) -> None:
        """Kill its process group now."""
        self.is_fit = False
        assert self._child is not None
        self._child.kill()

    def end(self) -> None:
        """Let it end: its stdin is closed; SIGTERM and SIGKILL follow if it does not end by itself."""
        self.is_fit, self._must_end = False, True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    # ------------------------------------------------------------ its life

    async def live(
        self, turn: Turn, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the process until it ends or has to end.

        Args:
            turn: the first turn; its secrets are kept out of the environment.
            task_status: told when the process has started.

        Raises:
            CommandNotFound: the command does not exist or cannot be executed.
            OSError: the system has no room for another process, or the disk none for its folder.
        """
        environment = self._handler.environment.variables(os.environ, turn.secrets, {})
        with anyio.CancelScope(shield=True), temporary_folder("cg_worker_resident_") as self._folder:
            try:
                status = await self._run(environment, task_status)
            except Exception as broken:
                if self._child is None:  # it did not start; the code that starts it gets the error
                    raise
                logger.exception("a resident command could not be followed any more")
                self._give_up(broken)
                return
            if self._turn is not None:
                self._turn.resolve(self._bad or self._outcome_of_end(self._turn.turn, status))

    def _outcome_of_end(self, turn: Turn, status: int) -> Outcome:
        assert self._child is not None
        handed_back = hand_back_after_guard(turn, self._child) if status else None
        return handed_back or outcome_of_exit(status, self._child.tail)

    async def _run(self, environment: Mapping[str, str], task_status: anyio.abc.TaskStatus[None]) -> int:
        async with start_child(
            self._handler.argv,
            env=environment,
            cwd=self._handler.cwd,
            on_line=lambda line: self._show(line),
            mask=lambda text: self._mask(text),
            pipes_stdio=True,
        ) as self._child:
            await self._talk(self._child, task_status)
            return await _ended(self._child, at_once=self._bad is not None)

    def _give_up(self, broken: Exception) -> None:
        self.is_fit = False
        if self._turn is not None:
            self._turn.fail(broken)

    async def _talk(self, child: ChildProcess, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Read its answers until they end, or until it has to end."""
        async with anyio.create_task_group() as tasks:
            self._tasks, self.is_fit = tasks, not self._must_end
            task_status.started()
            if self._must_end:
                return
            tasks.start_soon(_cancel_after_its_end, child, tasks.cancel_scope)
            await self._read(child)
            tasks.cancel_scope.cancel()
        self.is_fit = False

    async def _read(self, child: ChildProcess) -> None:
        lines = BufferedByteReceiveStream(child.stdio[1])
        most = self._handler.max_payload_bytes + _LINE_EXTRA_BYTES
        try:
            while await self._take(await lines.receive_until(b"\n", most)):
                pass
        except BadLine as bad:
            self._bad = failure("worker_answer_invalid", (), message=str(bad))
        except anyio.DelimiterNotFound:
            self._bad = too_large(f"a line has more than {most} bytes")
        except _PIPE_ENDED:
            pass  # its exit status says the rest
        self.is_fit = False
        if self._turn is None:
            logger.warning(
                "%s is replaced: it ended, or wrote something, between two turns", self._handler.argv[0]
            )

    async def _take(self, line: bytes) -> bool:
        """Take a line, and return whether to go on; not if the command has no turn to answer."""
        if self._turn is None:
            return False
        if await self._turn.take(line):
            self._turn = None
        return True

    def _send_soon(self, line: bytes) -> None:
        """Send a line; only a long one, or one that a busy command leaves in its pipe, needs a task."""
        assert self._child is not None
        rest, stdin = line, self._child.stdio[0]
        if isinstance(stdin, WritePipe):
            with suppress(*_PIPE_ENDED):
                rest = bytes(stdin.send_nowait(line))
        if rest and self._tasks is not None:
            self._tasks.start_soon(self._send, rest)

    async def _send(self, line: bytes) -> None:
        assert self._child is not None
        with suppress(*_PIPE_ENDED):  # it reads no more; if it also ends, that is seen where it is read
            await self._child.stdio[0].send(line)


async def _cancel_after_its_end(child: ChildProcess, reading: anyio.CancelScope) -> None:
    """End the reading even if a process outside the group keeps the pipe open."""
    await child.wait()
    await anyio.sleep(_DRAIN_SECONDS)
    reading.cancel()


async def _ended(child: ChildProcess, *, at_once: bool) -> int:
    """Wait for its end, which a closed stdin, SIGTERM and SIGKILL bring about; return the exit status."""
    await child.stdio[0].aclose()
    if not at_once:
        with anyio.move_on_after(_GRACE_SECONDS):
            return await child.wait()
    child.ask_to_end()
    with anyio.move_on_after(_GRACE_SECONDS):
        return await child.wait()
    child.kill()
    return await child.wait()
