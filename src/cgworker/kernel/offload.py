"""Work that would hold up a kernel's event loop, done in a process beside it.

A thread does not help: what parses JSON keeps the interpreter to itself until it is done, which for a body of
16 MiB takes up to seconds and hundreds of MiB. The process is started when it is first needed and ends when
it had nothing to do for a while, or has become large. It ends with its kernel, since its input does.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from cgworker.errors import InvalidRequest, KernelOverloaded

T = TypeVar("T")

_MAX_SECONDS = 60.0
_IDLE_SECONDS = 60.0
_MAX_RESIDENT_BYTES = 256 * 2**20
_SMALL_BYTES = 2**20  # bytes: what is at most as large does not wait for what is larger
_PROGRAM = "import sys; sys.path[:] = {path!r}; from cgworker.kernel.offload import main; main()"


async def offload(function: Callable[..., T], *arguments: Any, size_bytes: int) -> T:
    """What a function of a module gives for these arguments, in another process; all of it is pickled.

    Args:
        size_bytes: how large the arguments are, about.

    Raises:
        InvalidRequest: the function raised it.
        KernelOverloaded: it takes longer than a minute, or its process was ended from outside.
    """
    process = _FOR_SMALL if size_bytes <= _SMALL_BYTES else _FOR_LARGE
    is_good, given = await asyncio.get_running_loop().run_in_executor(
        process.thread, process.call, function, arguments
    )
    if not is_good:
        raise InvalidRequest(given)
    result: T = given
    return result


class _SideProcess:
    """One process, and the one thread that speaks to it: what is asked meanwhile waits."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "cg-offload")
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        message = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        try:
            try:
                answer = self._exchange(message)
            except (BrokenPipeError, EOFError):  # it had just ended for want of work
                self._end()
                answer = self._exchange(message)
        except (OSError, EOFError) as trouble:
            self._end()
            raise KernelOverloaded(
                f"the request could not be read ({type(trouble).__name__}), send less or try again",
                retry_after_seconds=1,
            ) from trouble
        result: tuple[bool, Any] = pickle.loads(answer)
        return result

    def _exchange(self, message: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        _send(process.stdin, message)
        if not _is_readable_within(process.stdout, _MAX_SECONDS):
            raise TimeoutError
        return _receive(process.stdout)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            program = [sys.executable, "-c", _PROGRAM.format(path=sys.path)]
            self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            atexit.unregister(self._end)
            atexit.register(self._end)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_FOR_SMALL: Final = _SideProcess()
_FOR_LARGE: Final = _SideProcess()


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(8, "big"))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """The next message; raises EOFError at the end."""
    head = pipe.read(8)
    if len(head) < 8 or len(message := pipe.read(int.from_bytes(head, "big"))) < int.from_bytes(head, "big"):
        raise EOFError("the process at the other end is gone")
    return message


def _is_readable_within(pipe: IO[bytes], seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


# ---------------------------------------------------------------- the process beside


def main() -> None:
    """Answer what comes on standard input, until it ends or there is reason to begin anew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the kernel's matter
    gc.disable()  # JSON has no cycles, and looking for some among millions of values takes seconds
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    while _is_readable_within(requests, _IDLE_SECONDS):
        try:
            function, arguments = pickle.loads(_receive(requests))
        except EOFError:
            return
        _send(answers, pickle.dumps(_outcome(function, arguments), pickle.HIGHEST_PROTOCOL))
        if _resident_bytes() > _MAX_RESIDENT_BYTES:
            return


def _resident_bytes() -> int:
    """What the process holds now; 0 where that is not told. (Its greatest is that of who started it, too.)"""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except InvalidRequest as refused:
        return False, refused.faults
