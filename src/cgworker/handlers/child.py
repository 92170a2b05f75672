"""Run a child process in its own session, read its output, and end its whole process group."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.abc

from cgworker.errors import CommandNotFound
from cgworker.handlers.draining import DrainedWait, Sink
from cgworker.handlers.group import ProcessGroup
from cgworker.handlers.guard import guard
from cgworker.handlers.process import PidfdProcess, Pipe, open_process
from cgworker.lease import Lease

_TAIL_LINES = 40
_LIMIT_REACHED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_DRAIN_SECONDS = 1.0


class ProcessLimitReached(OSError):
    """The system cannot start another process or open another file now; later it may."""


class ChildProcess:
    """A running child, made by `start_child`.

    Attributes:
        pid: its process id, which is also the id of its process group.
        ended_by_guard: whether the guard may have ended it, although its lease goes on; known once it has
            ended.
    """

    def __init__(self, process: anyio.abc.Process, tail: deque[str]) -> None:
        self._process = process
        self._tail = tail
        self._group = ProcessGroup(process)
        self._wait = process.wait
        self.pid: int = process.pid
        self.ended_by_guard: bool = False

    @property
    def tail(self) -> tuple[str, ...]:
        """The last 40 lines of its standard error."""
        return tuple(self._tail)

    def forget_tail(self) -> None:
        """Let `tail` begin anew."""
        self._tail.clear()

    @property
    def left_others(self) -> bool:
        """Whether it left processes in its group, which were then ended; known once the block has ended."""
        return self._group.ended_others

    @property
    def stdio(self) -> tuple[anyio.abc.ByteSendStream, anyio.abc.ByteReceiveStream]:
        """Its stdin and stdout, for a caller that started it with `pipes_stdio=True`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    async def wait(self) -> int:
        """Wait for its end, and return its exit status, negative for a signal."""
        status = await self._wait()
        self.ended_by_guard = guard.may_have_ended(self.pid)
        return status

    def ask_to_end(self) -> None:
        """Send SIGTERM to its process group; without groups (Windows) end the child."""
        self._group.ask_to_end()

    def kill(self) -> None:
        """Kill its process group now."""
        self._group.kill()

    def read_in_wait(self, output: DrainedWait) -> None:
        """Let `wait` read its output too.

        Args:
            output: reads it.
        """
        self._wait = output.ended

    def has_processes(self) -> bool:
        """Whether it, or a process that it left in its group, still runs."""
        return self._group.has_members()

    async def end(self) -> None:
        """End it if it still runs, and then the processes that it left in its group."""
        await self._group.end()


@asynccontextmanager
async def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    lease: Lease | None = None,
    on_line: Callable[[str], None],
    mask: Callable[[str], str] = lambda text: text,
    pipes_stdio: bool = False,
    reads_in_wait: bool = False,
) -> AsyncIterator[ChildProcess]:
    """Run a command until the block ends, and then end its whole process group.

    The group is also ended when this process ends, in any way, and when the lease ends (`guard.py`).

    Args:
        argv: the command and its arguments; no shell interprets them.
        env: its whole environment.
        cwd: its working directory; None is that of this process.
        lease: the lease it works under. The guard ends it with the lease even if this process is stopped.
        on_line: receives each line of its stdout and stderr, masked, with control characters escaped.
        mask: hides secrets in a line.
        pipes_stdio: leave its stdin and stdout to the caller (`ChildProcess.stdio`); its stderr is read here.
        reads_in_wait: its output need only be read while the caller awaits `ChildProcess.wait`: no task does.

    Yields:
        The child.

    Raises:
        CommandNotFound: the command does not exist or cannot be executed.
        ProcessLimitReached: the system cannot start another process now.
    """
    process = await _open(argv, env, cwd, pipes_stdio)
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    child = ChildProcess(process, tail)

    def take_error_line(line: str) -> None:
        tail.append(line)
        on_line(line)

    sinks = [(process.stderr, Sink(take_error_line, mask))]
    if not pipes_stdio:
        sinks.append((process.stdout, Sink(on_line, mask)))
    reading = _read_in_wait if reads_in_wait and isinstance(process, PidfdProcess) else _read_in_tasks
    try:
        with guard.watching(child.pid, lease):
            async with reading(child, process, sinks):
                yield child
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()


@contextmanager
def unwrapping_group() -> Iterator[None]:
    """Raise the exception of the caller's block itself, not the task group's exception group."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


async def _open(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, pipes_stdio: bool
) -> anyio.abc.Process:
    try:
        return await open_process(argv, env, cwd, has_input=pipes_stdio)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as missing:
        raise CommandNotFound(f"cannot run {argv[0]}: {missing.strerror}") from missing
    except OSError as unusable:  # such as a script without a `#!` line
        if unusable.errno in _LIMIT_REACHED:
            raise ProcessLimitReached(f"cannot start {argv[0]} now: {unusable.strerror}") from unusable
        raise CommandNotFound(f"cannot run {argv[0]}: {unusable.strerror}") from unusable


# ---------------------------------------------------------------- output

_Sinks = Sequence[tuple[anyio.abc.ByteReceiveStream | None, Sink]]


@asynccontextmanager
async def _read_in_wait(
    child: ChildProcess, process: anyio.abc.Process, sinks: _Sinks
) -> AsyncIterator[None]:
    """Let `child.wait` read the output; end the child after the block, and read the rest."""
    assert isinstance(process, PidfdProcess)
    output = DrainedWait(process, [(pipe, sink) for pipe, sink in sinks if isinstance(pipe, Pipe)])
    child.read_in_wait(output)
    try:
        yield
    finally:
        try:
            with anyio.CancelScope(shield=True):
                if child.has_processes():
                    await _end_and_read(child, output)
                with anyio.move_on_after(_DRAIN_SECONDS):
                    await output.drained()
        finally:
            output.close()


async def _end_and_read(child: ChildProcess, output: DrainedWait) -> None:
    """End a child's processes, and read what they write while they end: a full pipe would stop them."""
    with unwrapping_group():
        async with anyio.create_task_group() as reading:
            reading.start_soon(output.drained)
            await child.end()
            reading.cancel_scope.cancel()


@asynccontextmanager
async def _read_in_tasks(child: ChildProcess, _: anyio.abc.Process, sinks: _Sinks) -> AsyncIterator[None]:
    """Read the output in tasks; end the child after the block, and read the rest."""
    with unwrapping_group():
        async with anyio.create_task_group() as draining:
            drained = [_drain_in(draining, *each) for each in sinks]
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await child.end()
                    if not await _all_set(drained):
                        draining.cancel_scope.cancel()


async def _all_set(drained: Sequence[anyio.Event]) -> bool:
    """Wait for the ends of the pipes; a process outside the group may hold them open for longer."""
    with anyio.move_on_after(_DRAIN_SECONDS):
        for each in drained:
            await each.wait()
    return all(each.is_set() for each in drained)


def _drain_in(
    group: anyio.abc.TaskGroup, stream: anyio.abc.ByteReceiveStream | None, sink: Sink
) -> anyio.Event:
    """Read a stream in a task; return an event that is set at the stream's end."""
    ended = anyio.Event()

    async def drain() -> None:
        try:
            if stream is not None:
                async for chunk in stream:
                    sink.take(chunk)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        finally:
            sink.end()
            ended.set()

    group.start_soon(drain)
    return ended
