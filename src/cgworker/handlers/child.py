"""A child process in a session of its own: run it, drain its output, end its whole process group."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc

from cgworker.errors import CommandNotFound
from cgworker.handlers.guard import guard

_POSIX = os.name == "posix"
_TAIL_LINES = 40
_LINE_BYTES = 4096
_DRAIN_SECONDS = 1.0
_GROUP_GRACE_SECONDS = 2.0


class Child:
    """A running child. Made by `start_child`.

    Attributes:
        pid: its process id, which is also its process group's.
    """

    def __init__(self, process: anyio.abc.Process, tail: deque[str]) -> None:
        self._process = process
        self._tail = tail
        self.pid = process.pid

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of its standard error."""
        return tuple(self._tail)

    async def wait(self) -> int:
        """Its exit status, negative for a signal, as soon as it ends."""
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group; without groups (Windows) to the child."""
        if _POSIX:
            _signal_group(self.pid, number)
        elif self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End the whole process group now."""
        if _POSIX:
            _signal_group(self.pid, signal.SIGKILL)
        elif self._process.returncode is None:
            self._process.kill()


@asynccontextmanager
async def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], None],
    mask: Callable[[str], str] = lambda text: text,
) -> AsyncIterator[Child]:
    """Run a command until the block ends; then its whole process group is ended.

    Args:
        argv: the command and its arguments, not through a shell.
        env: its whole environment.
        cwd: its working directory; by default this process's.
        on_line: gets each line it writes to stdout or stderr, masked and with control characters escaped.
        mask: hides secrets in a line.

    Raises:
        CommandNotFound: it does not exist or cannot be executed.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = await _open(argv, env, cwd)
    child = Child(process, tail)
    if _POSIX:
        guard.add(child.pid)

    def take_error_line(line: str) -> None:
        tail.append(line)
        on_line(line)

    try:
        async with anyio.create_task_group() as draining:
            drained = [
                _drain_in(draining, process.stdout, on_line, mask),
                _drain_in(draining, process.stderr, take_error_line, mask),
            ]
            try:
                yield child
            finally:
                with anyio.CancelScope(shield=True):
                    await _end_group(child)
                    with anyio.move_on_after(
                        _DRAIN_SECONDS
                    ):  # a process outside the group may hold the pipes
                        for each in drained:
                            await each.wait()
                draining.cancel_scope.cancel()
    finally:
        if _POSIX:
            guard.remove(child.pid)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _open(argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> anyio.abc.Process:
    try:
        return await anyio.open_process(
            list(argv), stdin=None, env=dict(env), cwd=cwd, start_new_session=_POSIX
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as missing:
        raise CommandNotFound(f"cannot run {argv[0]}: {missing.strerror}") from missing
    except OSError as unusable:  # such as a script without a first line
        raise CommandNotFound(f"cannot run {argv[0]}: {unusable.strerror}") from unusable


async def _end_group(child: Child) -> None:
    """What the child left behind: ask it to end, then end it."""
    if child._process.returncode is None:  # noqa: SLF001  # same file
        child.kill()
        await child.wait()
    if not _POSIX or not _group_lives(child.pid):
        return
    child.signal(signal.SIGTERM)
    with anyio.move_on_after(_GROUP_GRACE_SECONDS):
        while _group_lives(child.pid):  # noqa: ASYNC110  # no system tells when a group is gone
            await anyio.sleep(0.02)
        return
    child.kill()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(group, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not _only_zombies(group)


def _only_zombies(group: int) -> bool:
    """Whether nobody is left in the group but the dead, whom their parent has not noticed yet."""
    if sys.platform != "linux":
        return False
    return all(state == "Z" for _, state in _members(group))


def _members(group: int) -> list[tuple[int, str]]:
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        if int(fields[2]) == group:
            found.append((int(process.name), fields[0]))
    return found


# ---------------------------------------------------------------- output


def _drain_in(
    group: anyio.abc.TaskGroup,
    stream: anyio.abc.ByteReceiveStream | None,
    on_line: Callable[[str], None],
    mask: Callable[[str], str],
) -> anyio.Event:
    """Read the stream in a task; the event is set at its end."""
    ended = anyio.Event()

    async def drain() -> None:
        rest = b""
        try:
            if stream is not None:
                async for chunk in stream:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        on_line(mask(escape(line)))
                    while len(rest) > _LINE_BYTES:  # a line without an end must not fill the memory
                        on_line(mask(escape(rest[:_LINE_BYTES])))
                        rest = rest[_LINE_BYTES:]
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass
        finally:
            if rest:
                on_line(mask(escape(rest)))
            ended.set()

    group.start_soon(drain)
    return ended


def escape(line: bytes) -> str:
    """A line fit for a terminal and a log: control characters spelled out, cut to a bounded length."""
    text = line[:_LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)
