"""Somebody who reads a page and does what it says, in a home of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.pages import ROOT, Block

# The ports that the pages use; a reader's own are others, since many read at once.
_PORTS = ("8000", "8081")


class Reader:
    """Somebody who follows pages, in a clone of the repository and an empty home.

    Args:
        home: their home and working directory.
        programs: the folder with `cg` and `python3`.
    """

    def __init__(self, home: Path, programs: Path) -> None:
        self._home = home
        self._programs = programs
        self._ports = {port: str(free_port()) for port in _PORTS}
        self._join_code = ""
        self._running: list[tuple[Path, str, subprocess.Popen[bytes]]] = []
        (home / "examples").symlink_to(ROOT / "examples")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for log, command, process in reversed(self._running):
            status = end(process)
            assert status == 0, f"{command} ended with {status}:\n{log.read_text()}"

    def save(self, name: str, content: str) -> None:
        """Save a file."""
        (self._home / name).write_text(content)

    def follow(self, block: Block) -> None:
        """Do with the block what the page says."""
        if block.file:
            self.save(block.file, block.code)
        elif block.mark == "run in the background":
            for command in block.code.splitlines():
                self._start(command)
        elif block.mark == "run":
            if "cg turn answer" in block.code:
                self._wait_until_asked()
            if "cg smoke pair" in block.code:
                time.sleep(1)  # the ids of these requests count seconds, and a reader takes longer
            self._run(block)

    def _run(self, block: Block) -> None:
        typed = ["python3", "-c"] if block.language == "python" else ["bash", "-euc"]
        output = run([*typed, self._adapted(block.code)], cwd=self._home, env=self._environment())
        if found := re.search(r"cgjoin_[\w-]+", output):
            self._join_code = found[0]

    def _start(self, command: str) -> None:
        """Start a server or a worker, and wait until it is ready: a reader is slower than a program."""
        port = self._ports["8000"]
        if command.startswith("cg worker ") and "--health-port" not in command:
            port = str(free_port())
            command = re.sub(r"^cg worker \w+", rf"\g<0> --health-port {port}", command)
        elif command.startswith("cg worker "):
            port = self._ports["8081"]
        log = self._home / f"{len(self._running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {self._adapted(command)}"],
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._running.append((log, command, process))
        deadline = time.monotonic() + 60
        last_line = "Ctrl-C" if command.startswith("cg dev") else ""  # its agents come after its kernel
        while not (answers(f"http://127.0.0.1:{port}/readyz") and last_line in log.read_text()):
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail(f"{command} did not become ready:\n{log.read_text()}")
            time.sleep(0.05)  # a server in another process has no event to wait for

    def _wait_until_asked(self) -> None:
        """A reader answers when there is a question."""
        listing = ["cg", "turn", "questions", "--profile", "cg-demo/worker-1"]
        deadline = time.monotonic() + 30
        while '"items":[]' in run(listing, cwd=self._home, env=self._environment()):
            assert time.monotonic() < deadline

    def _adapted(self, code: str) -> str:
        for told, ours in self._ports.items():
            code = re.sub(rf"(127\.0\.0\.1:|port ){told}\b", rf"\g<1>{ours}", code)
        return re.sub(r"cgjoin_X+", self._join_code, code)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CG_", "PG", "XDG_"))
        }
        path = os.pathsep.join(map(str, (self._programs, Path(sys.executable).parent, kept["PATH"])))
        return {**kept, "HOME": str(self._home), "PATH": path, "PYTHONFAULTHANDLER": "1"}


def answers(url: str) -> bool:
    """Whether a server answers there that all is well."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> int:
    """End it as its user would; if it does not end, have it write where it hangs."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.wait(30)


def run(command: list[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; what it wrote is shown if it does not."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
