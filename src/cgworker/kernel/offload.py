"""Offload work that would block the kernel's event loop to a side process.

A thread does not help: the JSON parser holds the interpreter lock until it is done. For a body of 16 MiB that
takes up to seconds, and hundreds of MiB. The side process starts when it is first needed. It ends when it has
been idle for a minute or has become large, and with its kernel, whose end closes its input.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Final, TypeVar

from cgworker.errors import InvalidRequest, KernelOverloaded
from cgworker.kernel.memory import resident_bytes

T = TypeVar("T")

_MAX_SECONDS = 60.0
_IDLE_SECONDS = 60.0
_MAX_RESIDENT_BYTES = 256 * 2**20
_SMALL_BYTES = 2**20  # requests up to this size have a process of their own: they do not wait for larger ones
_PROGRAM = "import sys; sys.path[:] = {path!r}; from cgworker.kernel.offload import main; main()"


async def offload(function: Callable[..., T], *arguments: Any, size_bytes: int) -> T:
    """Call a function in a side process and return its result.

    The function, its arguments and its result are pickled, so the function must belong to a module.

    Args:
        function: the function to call; it may raise InvalidRequest only.
        arguments: its arguments.
        size_bytes: the approximate size of the arguments.

    Raises:
        InvalidRequest: raised by the function.
        KernelOverloaded: the call took over a minute, or the side process was killed.
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
    """A side process, and the one thread that talks to it: calls queue in the thread."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "cg-offload")
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        message = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        try:
            try:
                answer = self._exchange(message)
            except (BrokenPipeError, EOFError):  # it has just ended, because it was idle
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
    """Return the next message; raise EOFError at the end of the pipe."""
    head = pipe.read(8)
    if len(head) < 8 or len(message := pipe.read(int.from_bytes(head, "big"))) < int.from_bytes(head, "big"):
        raise EOFError("the process at the other end is gone")
    return message


def _is_readable_within(pipe: IO[bytes], seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


# ---------------------------------------------------------------- the side process


def main() -> None:
    """Answer the calls on standard input until it ends, or the process is idle or too large."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the kernel handles the terminal's Ctrl-C
    gc.disable()  # JSON has no cycles, and a search among millions of values takes seconds
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # printed text must not mix with the answers
    while _is_readable_within(requests, _IDLE_SECONDS):
        try:
            function, arguments = pickle.loads(_receive(requests))
        except EOFError:
            return
        _send(answers, pickle.dumps(_outcome(function, arguments), pickle.HIGHEST_PROTOCOL))
        if resident_bytes() > _MAX_RESIDENT_BYTES:
            return


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except InvalidRequest as refused:
        return False, refused.faults
