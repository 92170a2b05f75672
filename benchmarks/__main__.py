"""Every row, one after the other, and the page: `make bench`; `make bench ROWS="verbs start"` only those."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
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
    "memory",
    "front_door",
    "steps",
    "due_turns",
    "ordered_turns",
    "feed_readers",
    "watching",
    "large_turns",
    "fleet",
    "ray_turns",
    "steady_memory",
)
"""The modules of the rows, in the order of the page."""

_ROW_SECONDS = 900


def main(names: Sequence[str]) -> int:
    """Measure these rows, or all; of the others the page keeps what it has.

    Returns:
        1 if a row could not be measured; the page then has the others.
    """
    if unknown := set(names) - set(ROWS):
        sys.stderr.write(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}\n")
        return 2
    kept = {} if not names else {_number(line): line for line in page.LINES.read_text().splitlines(True)}
    lines = {name: _line_of(name) for name in names or ROWS}
    measured = {_number(line): line for line in lines.values() if line is not None}
    page.LINES.write_text("".join(line for _, line in sorted({**kept, **measured}.items())))
    page.write()
    failed = [name for name, line in lines.items() if line is None]
    sys.stderr.write(f"written: {page.PAGE}\n" + "".join(f"not measured: {name}\n" for name in failed))
    return 1 if failed else 0


def _number(line: str) -> int:
    return int(json.loads(line)["row"])


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
    sys.exit(main(sys.argv[1:]))
