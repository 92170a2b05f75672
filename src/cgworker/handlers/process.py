"""Start a process and wait for its end, without a thread if the system has pidfds.

Until Python 3.12, asyncio waits for each child in a thread, which costs a millisecond of the event loop for
each turn. Linux signals the end by a file descriptor (pidfd). Remove PidfdProcess when 3.12 is the oldest
Python.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import anyio
import anyio.abc

from cgworker.handlers.group import HAS_GROUPS

_READ_BYTES = 65536


def _has_pidfd() -> bool:
    """Whether pidfds can be used: old kernels have none, and some sandboxes forbid them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return HAS_GROUPS


HAS_PIDFD = _has_pidfd()


async def open_process(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, *, has_input: bool = False
) -> anyio.abc.Process:
    """Start a process in its own session if the platform has sessions; its stdout and stderr are pipes.

    Args:
        argv: the command and its arguments; no shell interprets them.
        env: its whole environment.
        cwd: its working directory; None is that of this process.
        has_input: whether its stdin is a pipe too; by default it inherits stdin.

    Raises:
        OSError: it cannot be started.
    """
    stdin = subprocess.PIPE if has_input else None
    if HAS_PIDFD:
        return PidfdProcess(argv, env, cwd, stdin)
    return await anyio.open_process(
        list(argv), stdin=stdin, env=dict(env), cwd=cwd, start_new_session=HAS_GROUPS
    )


class Pipe(anyio.abc.ByteReceiveStream):
    """The read end of a pipe.

    Args:
        file: the pipe; `aclose()` closes it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        """Wait for data, and read it.

        Args:
            max_bytes: the most bytes to read.

        Raises:
            anyio.EndOfStream: all writers have closed the pipe.
        """
        await anyio.wait_readable(self._file.fileno())
        if not (data := os.read(self._file.fileno(), max_bytes)):
            raise anyio.EndOfStream
        return data

    def receive_nowait(self) -> bytes:
        """Read the data that is there; empty if all writers have closed the pipe.

        Raises:
            BlockingIOError: there is none.
        """
        return os.read(self._file.fileno(), _READ_BYTES)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._file.fileno()

    async def aclose(self) -> None:
        """Close the pipe; a process that still writes gets SIGPIPE."""
        self._file.close()


class WritePipe(anyio.abc.ByteSendStream):
    """The write end of a pipe.

    Args:
        file: the pipe; `aclose()` closes it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file

    async def send(self, item: bytes) -> None:
        """Write all bytes.

        Args:
            item: the bytes.

        Raises:
            anyio.BrokenResourceError: the reader has closed the pipe.
            anyio.ClosedResourceError: this end is closed.
        """
        rest = self.send_nowait(item)
        while rest:
            await anyio.wait_writable(self._file.fileno())
            rest = self.send_nowait(rest)

    def send_nowait(self, item: bytes | memoryview) -> memoryview:
        """Write the bytes that the pipe has room for, and return the rest.

        Args:
            item: the bytes.

        Raises:
            anyio.BrokenResourceError: the reader has closed the pipe.
            anyio.ClosedResourceError: this end is closed.
        """
        rest = memoryview(item)
        while rest:
            if self._file.closed:
                raise anyio.ClosedResourceError
            try:
                rest = rest[os.write(self._file.fileno(), rest) :]
            except BlockingIOError:
                break
            except BrokenPipeError as gone:
                raise anyio.BrokenResourceError from gone
        return rest

    async def aclose(self) -> None:
        """Close the pipe; its reader then sees the end."""
        self._file.close()


class PidfdProcess(anyio.abc.Process):
    """A process whose end a file descriptor signals. The arguments are those of `open_process`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, stdin: int | None = None
    ) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
        )
        self._stdin = None if self._process.stdin is None else WritePipe(self._process.stdin)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout, self._stderr = Pipe(self._process.stdout), Pipe(self._process.stderr)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:  # no descriptor is free, so its end could not be seen
            self._process.kill()
            self._process.communicate()
            raise

    async def wait(self) -> int:
        """Its exit status, negative for a signal, as soon as it ends."""
        while (status := self.status()) is None:
            await anyio.wait_readable(self._pidfd)
        return status

    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def fileno(self) -> int:
        """The descriptor that can be read once it has ended."""
        return self._pidfd

    async def aclose(self) -> None:
        """Close the pipes, and kill the process if it still runs."""
        if self._stdin is not None:
            await self._stdin.aclose()
        await self._stdout.aclose()
        await self._stderr.aclose()
        if self._process.poll() is None:
            self.kill()
            with anyio.CancelScope(shield=True):
                await self.wait()
        os.close(self._pidfd)

    def terminate(self) -> None:
        """Send SIGTERM to the process, not to its group."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process, not to its group."""
        self._process.kill()

    def send_signal(self, signal: int) -> None:
        """Send a signal to the process, not to its group.

        Args:
            signal: the signal's number.
        """
        self._process.send_signal(signal)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs, or until `wait()` is called."""
        return self._process.returncode

    @property
    def stdin(self) -> WritePipe | None:
        """The pipe to its stdin; None if it inherits stdin."""
        return self._stdin

    @property
    def stdout(self) -> Pipe:
        """The pipe from its stdout."""
        return self._stdout

    @property
    def stderr(self) -> Pipe:
        """The pipe from its stderr."""
        return self._stderr
