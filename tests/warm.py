"""A Python that has loaded `cg` already: it forks for each program, which saves half a second a start.

`warm_folder()` holds `python`, `python3` and `cg`. They take `-c CODE`, `-m MODULE` or a file; flags of
Python's own start the cold Python. They pass their arguments, environment, folder, umask and standard streams
to a process of the warm Python, which runs the program. They hand on signals, end as it does, and when one
is killed, it is killed as well. Only its parent, its process group and its memory are others, and SIGSTOP
does not reach it: tests about these start `sys.executable`.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

from tests.initdb import run_initdb_once, share_clusters
from tests.measured import VARIABLE, config_for_programs

ROOT = Path(__file__).parent.parent

# Without `site` and with modules of C alone it starts within ten milliseconds.
_STAND_IN = """#!{python} -ISE
import array, marshal, posix, sys
import _signal as signal
import _socket as socket

words = {before} + sys.argv[1:]
if words[:1] not in (["-c"], ["-m"]) and (not words or words[0].startswith("-")):
    posix.execv({python!r}, [{python!r}, *words])
umask = posix.umask(0)
posix.umask(umask)
environ = {{name.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
    for name, value in posix.environ.items()}}
asked = marshal.dumps((words, environ, umask))
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect({address!r})
folder = posix.open(".", posix.O_RDONLY)
server.sendmsg([len(asked).to_bytes(8, "big")],
    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2, folder]))])
signals = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
sent = 0
while sent < len(asked):
    sent += server.send(asked[sent:])
child = int.from_bytes(server.recv(4), "big")
for number in signals:
    signal.signal(number, lambda number, frame: posix.kill(child, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
for stream in (0, 1, 2):
    posix.close(stream)
status = int.from_bytes(server.recv(4), "big")
for number in {{status & 0x7F}} - {{0}}:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    posix.kill(posix.getpid(), number)
posix._exit(status >> 8)
"""


def warm_python() -> str:
    """The path of `python` in the folder."""
    return str(warm_folder() / "python")


@cache
def warm_folder(*also: str) -> Path:
    """The folder with the programs; the warm Python starts when it is first asked for.

    Args:
        also: modules to load beside those of `cg`.
    """
    folder = Path(tempfile.mkdtemp(prefix="cg-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    address = str(folder / "socket")
    share_clusters()
    stays, held = os.pipe()  # it ends with this process, which holds the other end
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", address, *also],
        cwd=ROOT,
        env={**os.environ, **_measured()},
        stdin=stays,
        stdout=subprocess.PIPE,
    )
    os.close(stays)
    atexit.register(_end, server, held)
    assert server.stdout is not None
    server.stdout.read(1)
    for name, before in (("python", []), ("python3", []), ("cg", ["-m", "cgworker"])):
        program = folder / name
        program.write_text(_STAND_IN.format(python=sys.executable, address=address, before=before))
        program.chmod(0o755)
    return folder


def _measured() -> Mapping[str, str]:
    """What makes the warm Python and all that it forks count, where the tests do."""
    config = config_for_programs()
    return {VARIABLE: config} if config else {}


def _end(server: subprocess.Popen[bytes], held: int) -> None:
    os.close(held)
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


# ---------------------------------------------------------------- the warm Python itself


class Job(NamedTuple):
    """A program that is asked for."""

    argv: list[str]
    environ: dict[str, str]
    umask: int


class Server:
    """Forks a process for each program that is asked for, and tells how it ended.

    Args:
        address: the path of its socket.
    """

    def __init__(self, address: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(0, selectors.EVENT_READ)

    def serve(self) -> Job:
        """Serve until the tests end; it returns in each child, with what the child is to run."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    os.kill(os.getpid(), signal.SIGKILL)  # what it loaded counts in its children
                if key.fileobj is not self._listener:
                    key.data()
                elif job := self._accept():
                    return job

    def _accept(self) -> Job | None:
        asking, _ = self._listener.accept()
        job, streams = _received(asking)
        child = os.fork()
        if child == 0:
            asking.close()
            self._listener.close()
            self._selector.close()
            _take(streams, job)
            return job
        for descriptor in streams:
            os.close(descriptor)
        asking.sendall(child.to_bytes(4, "big"))
        end = os.pidfd_open(child)

        def ended() -> None:
            _, status = os.waitpid(child, 0)
            with suppress(OSError):
                asking.sendall(status.to_bytes(4, "big"))
            self._selector.unregister(end)
            os.close(end)
            with suppress(KeyError):
                self._selector.unregister(asking)
            asking.close()

        def killed() -> None:
            self._selector.unregister(asking)
            signal.pidfd_send_signal(end, signal.SIGKILL)

        self._selector.register(end, selectors.EVENT_READ, ended)
        self._selector.register(asking, selectors.EVENT_READ, killed)
        return None


def _received(asking: socket.socket) -> tuple[Job, list[int]]:
    size, streams, _, _ = socket.recv_fds(asking, 8, 4)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += asking.recv(1 << 20)
    return Job(*marshal.loads(asked)), streams


def _take(streams: list[int], job: Job) -> None:
    """Be what the asking process is: its streams, folder, environment and umask."""
    os.setsid()
    *standard, folder = streams
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=stream.isatty() or stream is sys.stderr)
    os.fchdir(folder)
    os.close(folder)
    os.environ.clear()
    os.environ.update(job.environ)
    os.umask(job.umask)


def _run_to_its_end(argv: list[str]) -> NoReturn:
    """Run a program, but leave its modules at its end: taking them apart would copy their memory."""
    status = 1
    try:
        _run(argv)
        status = 0
    except SystemExit as ended:
        status = _status_of(ended)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # as Python does
            atexit._run_exitfuncs()  # noqa: SLF001  # the same
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _status_of(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return (ended.code or 0) & 0xFF
    print(ended.code, file=sys.stderr)  # noqa: T201  # as Python does
    return 1


def _run(argv: list[str]) -> None:
    """Run a program as `python` does with these words."""
    how, *words = argv
    if how == "-m":
        sys.path[0] = str(Path.cwd())
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path[0] = str(Path(how).parent)
        sys.argv = argv
        runpy.run_path(how, run_name="__main__")


def main() -> None:
    """Load what programs will need, serve, and in each child run its program."""
    address, *also = sys.argv[1:]
    faulthandler.enable()
    sys.executable = str(Path(address).with_name("python"))  # what programs start is warm as well
    from cgworker.cli.root import WORDS  # it loads typer, which who asks for programs need not

    commands = (f"cgworker.cli.commands.{word}" for word in (*WORDS, "worker.loop", "worker.run"))
    for name in (*commands, *also):
        import_module(name)
    run_initdb_once()
    gc.freeze()  # a collection in a child would copy all of it
    server = Server(address)
    os.write(1, b"\n")
    _run_to_its_end(server.serve().argv)


if __name__ == "__main__":
    main()
