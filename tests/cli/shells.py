"""Real shells, in which a person types `cg` and presses Tab."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.warm import warm_folder

SHELLS = ("bash", "zsh", "fish")
_INSTALL = "cg --install-completion; :"  # a shell that has more to do stays the parent, which is looked for
_PROMPT = "type> "
_SECONDS = 60.0
_PAUSE_SECONDS = 2.0  # a first Tab adds what all values begin with, a further one lists them
_SILENCE_SECONDS = 0.3  # what is drawn at once comes in pieces
_DRAWING = re.compile(r"\x1b(\[[0-9;?=>]*[A-Za-z]|[()=>][0-9A-B]?)|\x07|\r")


class Shell:
    """A shell with `cg` and its completion, as `cg --install-completion` sets it up in an empty home.

    Args:
        name: bash, zsh or fish; the test is skipped where it is not installed.
        home: the home.

    Attributes:
        installed: what the setup printed.
        shows_descriptions: whether the shell shows what a value is.
    """

    def __init__(self, name: str, home: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"NO {name.upper()}: {name} is not on the PATH, so completion in it is NOT tested")
        self._name = name
        self._home = home
        self.installed = self.run(_INSTALL, programs=Path(sys.executable).parent)
        self.shows_descriptions = name != "bash"

    def run(self, line: str, *, programs: Path | None = None) -> str:
        """Run a line without a terminal; returns what it printed.

        Args:
            line: the line.
            programs: the folder with `cg`; by default that of the warm one, whose parent is not the shell.
        """
        environment = self._environment(programs)
        done = subprocess.run(
            [self._name, "-c", line], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def completes(self, line: str, *expected: str) -> str:
        """Press Tab after a line until all that is expected is there; returns what is shown.

        fish tells what it would show; the others are typed at on a terminal.
        """
        if self._name == "fish":
            shown = self.run(f"complete --do-complete '{line}'")
            assert all(each in shown for each in expected), shown
            return shown
        return self._typed(line, expected)

    def _environment(self, programs: Path | None = None) -> Mapping[str, str]:
        own = ("BASH", "ZDOTDIR", "fish_", "XDG_")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(own)}
        path = f"{programs or warm_folder()}{os.pathsep}{kept['PATH']}"
        return {**kept, "HOME": str(self._home), "PATH": path, "TERM": "xterm"}

    def _typed(self, line: str, expected: tuple[str, ...]) -> str:
        """Type a line and Tab at a new shell; in one that completes already, Ctrl-C would end that or not."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, 160))
        # The first terminal that the leader of a session opens is its own, which line editors ask for.
        on_terminal = 'exec "$0" -i <>"$1" >&0 2>&0'
        shell = subprocess.Popen(
            ["sh", "-c", on_terminal, self._name, os.ttyname(theirs)],
            env=self._environment(),
            cwd=self._home,
            start_new_session=True,
        )
        try:
            os.write(ours, f"PS1='{_PROMPT[:-2]}''{_PROMPT[-2:]}'\n".encode())
            _read(ours, (_PROMPT,))
            os.write(ours, f"{line}\t".encode())
            return _read(ours, expected, pressing=b"\t")
        finally:
            for end in (
                ours,
                theirs,
            ):  # theirs is open until then: Linux fails reads of one that none has open
                os.close(end)
            shell.kill()
            shell.wait()


def _read(terminal: int, expected: tuple[str, ...], *, pressing: bytes = b"") -> str:
    """Read what is drawn until all that is expected is there; press a key whenever nothing more is drawn."""
    drawn = b""
    deadline = time.monotonic() + _SECONDS
    while True:
        shown = _DRAWING.sub("", drawn.decode(errors="replace"))
        if all(each in shown for each in expected):
            if not select.select([terminal], [], [], _SILENCE_SECONDS)[0]:
                return shown
            drawn += os.read(terminal, 65536)
            continue
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], _PAUSE_SECONDS)[0]:
            drawn += os.read(terminal, 65536)
        else:
            os.write(terminal, pressing)
