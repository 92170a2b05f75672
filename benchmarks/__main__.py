"""Every row, one after the other, and the page: `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import page

ROWS = ("closed_turns", "verbs", "growth", "kernel_memory")
"""The modules of the rows, in the order of the page."""

_ROW_SECONDS = 400


def main() -> int:
    """Returns 1 if a row could not be measured; the page then has the others."""
    lines, failed = [], []
    for name in ROWS:
        begun = time.monotonic()
        line = _line_of(name)
        (failed if line is None else lines).append(line or name)
        sys.stderr.write(
            f"{name}: {'failed' if line is None else 'done'}, {time.monotonic() - begun:.0f} s\n"
        )
    page.LINES.write_text("".join(lines))
    page.write()
    sys.stderr.write(f"written: {page.PAGE}\n" + "".join(f"not measured: {name}\n" for name in failed))
    return 1 if failed else 0


def _line_of(name: str) -> str | None:
    """The line that a row prints; None if it fails or takes too long. What it says goes to our stderr."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_ROW_SECONDS)
    except subprocess.SubprocessError:
        return None
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
