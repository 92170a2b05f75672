"""Starting a process and noticing its end, without a thread where the system allows it.

Python before 3.12 gives asyncio a thread for each child to wait for it, which costs a millisecond of the
event loop for each turn. Linux tells by a file descriptor (pidfd) instead; elsewhere anyio knows best.
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
    """Whether the system has it, and lets us: old ones and some sandboxes do not."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return HAS_GROUPS


HAS_PIDFD = _has_pidfd()


async def open_process(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, *, has_input: bool = False
) -> anyio.abc.Process:
    """Start a process in a session of its own, where there are any; its stdout and stderr are piped.

    Args:
        argv: the command and its arguments, not through a shell.
        env: its whole environment.
        cwd: its working directory; None is this process's.
        has_input: pipe its stdin too; otherwise it has ours.

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
        file: is closed with it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        """What can be read, once there is something.

        Raises:
            anyio.EndOfStream: everybody who could write to it has closed it.
        """
        await anyio.wait_readable(self._file.fileno())
        if not (data := os.read(self._file.fileno(), max_bytes)):
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """Whoever still writes gets SIGPIPE from now on."""
        self._file.close()


class WritePipe(anyio.abc.ByteSendStream):
    """The write end of a pipe.

    Args:
        file: is closed with it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self._file = file

    async def send(self, item: bytes) -> None:
        """Write all of it.

        Raises:
            anyio.BrokenResourceError: nobody reads it any more.
            anyio.ClosedResourceError: we have closed it.
        """
        rest = memoryview(item)
        while rest:
            if self._file.closed:
                raise anyio.ClosedResourceError
            try:
                rest = rest[os.write(self._file.fileno(), rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._file.fileno())
            except BrokenPipeError as gone:
                raise anyio.BrokenResourceError from gone

    async def aclose(self) -> None:
        """Whoever reads it comes to its end."""
        self._file.close()


class PidfdProcess(anyio.abc.Process):
    """A process whose end is told by a file descriptor; the arguments are those of `open_process`.

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
        except OSError:  # no file to spare: nobody would notice its end
            self._process.kill()
            self._process.communicate()
            raise

    async def wait(self) -> int:
        """Its exit status, negative for a signal, as soon as it ends."""
        while (status := self._process.poll()) is None:
            await anyio.wait_readable(self._pidfd)
        return status

    async def aclose(self) -> None:
        """Close the pipes, and kill it if it still runs."""
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
        """Send SIGTERM to it alone."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to it alone."""
        self._process.kill()

    def send_signal(self, signal: int) -> None:
        """Send a signal to it alone."""
        self._process.send_signal(signal)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs, or until somebody waits for it."""
        return self._process.returncode

    @property
    def stdin(self) -> WritePipe | None:
        """What it reads there; None if it has ours."""
        return self._stdin

    @property
    def stdout(self) -> Pipe:
        """What it writes there."""
        return self._stdout

    @property
    def stderr(self) -> Pipe:
        """What it writes there."""
        return self._stderr
