#!/usr/bin/env bash
# Cancelling a task that watches files sets the stop event that the caller lent to it.
#
# Packages: watchfiles 1.3.0, anyio 4.16.0
# Guess: `awatch(stop_event=event)` reads the event; whether it is set is the caller's affair.
# Seen: after the watching scope was cancelled, `event.is_set()` is True, although nobody of ours set it.
# Why it matters: a reloader that uses one event for "the program is to end" takes a cancelled watch for the end, and
#   does not start its workers again. Give each watch an event of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'watchfiles==1.3.0' 'anyio==4.16.0'
mkdir "$folder/watched"
"$folder/venv/bin/python" - "$folder/watched" <<'PYTHON'
import sys

import anyio
from watchfiles import awatch


async def main():
    event = anyio.Event()
    with anyio.move_on_after(1):
        async for _ in awatch(sys.argv[1], stop_event=event):
            pass
    return event.is_set()


seen = anyio.run(main)
print("set after the cancellation:", seen)
assert seen is True
PYTHON
