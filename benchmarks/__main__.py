"""Every row, one after the other, and the page: `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

from benchmarks import page

ROWS = (
    "closed_turns",
    "verbs",
    "queued_turns",
    "pick_up",
    "command_loop",
    "idle_worker",
    "start",
    "growth",
    "held_turns",
    "kernel_memory",
)
"""The modules of the rows, in the order of the page."""

_ROW_SECONDS = 420


def main() -> int:
    """Returns 1 if a row could not be measured; the page then has the others."""
    lines = {name: _line_of(name) for name in ROWS}
    page.LINES.write_text("".join(line for line in lines.values() if line is not None))
    page.write()
    failed = [name for name, line in lines.items() if line is None]
    sys.stderr.write(f"written: {page.PAGE}\n" + "".join(f"not measured: {name}\n" for name in failed))
    return 1 if failed else 0


def _line_of(name: str) -> str | None:
    """The line that a row prints; None if it fails or takes too long. What it says goes to our stderr."""
    begun, line = time.monotonic(), None
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with suppress(subprocess.SubprocessError):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_ROW_SECONDS)
        line = done.stdout
    took = time.monotonic() - begun
    sys.stderr.write(f"{name}: {'done' if line else 'failed'}, {took:.0f} s\n")
    return line


if __name__ == "__main__":
    sys.exit(main())
