"""The documentation says what is true: it is made from the code where it can be, and its code runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
STORIES = [page for page in PAGES if any(block.mark for block in blocks(page))]


# ---------------------------------------------------------------- the pages themselves


def test_no_page_is_behind_the_code() -> None:
    """`make docs` would change nothing."""
    run([sys.executable, "docs/generate.py", "--check"])


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """No dead link, no page outside the contents."""
    run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_every_python_block_is_python(block: Block) -> None:
    """Also those that are not run."""
    compile(block.code, str(block), "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT: a part of a program


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=str)
def test_every_shell_block_is_shell(block: Block) -> None:
    """Also those that are not run."""
    run(["sh", "-n", "-c", block.code])


def test_every_test_that_a_page_names_is_there() -> None:
    """Who reads what happens when something dies can look at it happening."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []


# ---------------------------------------------------------------- the stories they tell


@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.stem)
@pytest.mark.timeout(180)
def test_what_a_page_tells_works_as_told(page: Path) -> None:
    """A reader types its blocks one after the other, in a fresh home; so does this test."""
    # Not pytest's folder: run by root, PostgreSQL is another user, and pytest takes its way away.
    with tempfile.TemporaryDirectory(prefix="cg-") as home, Reader(Path(home)) as reader:
        for block in blocks(page):
            reader.follow(block)


class Reader:
    """Somebody who follows a page, in a home of their own; port 8000 is another one here."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._join_code = ""
        self._running: list[tuple[Block, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for block, process in reversed(self._running):
            status = end(process)
            assert status == 0, f"{block} ended with {status}:\n{self._log_of(block).read_text()}"

    def follow(self, block: Block) -> None:
        """Do with the block what the page says."""
        if block.file:
            (self._home / block.file).write_text(block.code)
        elif block.mark == "run in the background":
            self._start(block)
        elif block.mark == "run":
            self._run(block)

    def _run(self, block: Block) -> None:
        typed = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euc"]
        output = run([*typed, self._adapted(block.code)], cwd=self._home, env=self._environment())
        if found := re.search(r"cgjoin_[\w-]+", output):
            self._join_code = found[0]

    def _start(self, block: Block) -> None:
        command = ["bash", "-euc", f"exec {self._adapted(block.code)}"]
        with self._log_of(block).open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self._home, env=self._environment(), stdout=log, stderr=log
            )
        self._running.append((block, process))
        if " run " in block.code:
            self._wait_until_ready(block, process)

    def _log_of(self, block: Block) -> Path:
        return self._home / f"line-{block.line}.log"

    def _wait_until_ready(self, block: Block, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5).close()
            except OSError:
                time.sleep(0.05)  # a server in another process has no event to wait for
            else:
                return
        pytest.fail(f"the kernel did not become ready:\n{self._log_of(block).read_text()}")

    def _adapted(self, code: str) -> str:
        code = code.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}").replace(
            "--port 8000", f"--port {self._port}"
        )
        return re.sub(r"cgjoin_X+", self._join_code, code)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("CG_", "PG", "XDG_"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        return {**kept, "HOME": str(self._home), "PATH": path, "PYTHONFAULTHANDLER": "1"}


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
