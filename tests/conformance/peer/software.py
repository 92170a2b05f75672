"""The two programs called `cg`, ours and the reference's, run as processes in a home of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

HERE = Path(__file__).parent
PYTHON_VARIABLE = "CG_REFERENCE_PYTHON"
OURS = (sys.executable, "-m", "cgworker")

_CALL_SECONDS = 40.0
_END_SECONDS = 20.0


def reference_python() -> str:
    """The Python that has the reference; skips the test where there is none."""
    if python := os.environ.get(PYTHON_VARIABLE):
        return python
    pytest.skip(
        "the reference is not installed: `make conformance` installs it in an environment of its own and"
        f" runs these tests (or set {PYTHON_VARIABLE} to the Python that has commonground-kernel[server])"
    )


def their_client() -> tuple[str, ...]:
    """The reference's `cg`, as it was published."""
    return (str(Path(reference_python()).with_name("cg")),)


def their_server() -> tuple[str, ...]:
    """The reference's `cg` with what keeps its server from working mended (mended_server.py)."""
    return (reference_python(), str(HERE / "mended_server.py"))


@frozen
class Said:
    """What a command answered: its exit status, and the parts of its envelope."""

    exit_code: int
    ok: bool
    result: Any
    error: Mapping[str, Any]


@frozen
class Home:
    """A user: a folder for HOME, and a program in it.

    Args:
        folder: HOME, and the working directory.
        program: how `cg` is started.
        env: variables besides those that every process needs.
    """

    folder: Path
    program: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict)

    def run(self, *words: str, stdin: str = "") -> Said:
        """Run a command to its end, and read its envelope."""
        done = subprocess.run(
            [*self.program, *words],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=_CALL_SECONDS,
            check=False,
        )
        try:
            envelope = json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"cg {' '.join(words)}: {done.stdout}\n{done.stderr}") from None
        return Said(done.returncode, envelope["ok"], envelope.get("result"), envelope.get("error", {}))

    def result(self, *words: str, stdin: str = "") -> Any:
        """Run a command that has to succeed."""
        said = self.run(*words, stdin=stdin)
        assert said.ok, said
        assert said.exit_code == 0, said
        return said.result

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command while the block runs; its output is told when the block fails."""
        path = self.folder / f"{'-'.join(words[:2])}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [*self.program, *words],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        except BaseException as error:
            error.add_note(f"cg {' '.join(words)} said: {path.read_text('utf-8', 'replace')[-4000:]}")
            raise
        finally:
            _end(process)

    @property
    def environment(self) -> dict[str, str]:
        """Ours, without anything that leads to the user's own kernel, database or files."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("CG_", "PG", "XDG_"))}
        return {**kept, "HOME": str(self.folder), **self.env}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
