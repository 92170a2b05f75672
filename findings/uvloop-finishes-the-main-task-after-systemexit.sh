#!/usr/bin/env bash
# When a task raises SystemExit, uvloop lets the tasks that wait for it run before the loop is left; asyncio does not.
#
# Packages: uvloop 0.23.0 beside asyncio of the Python that runs this (seen on 3.11)
# Guess: uvloop is a drop-in: `run_until_complete` is left at once in both, and the main task has not gone on.
# Seen: asyncio: SystemExit leaves the loop, the main task had not gone on. uvloop: the main task caught the error and
#   was done when SystemExit left the loop.
# Why it matters: a runtime that hands back its work when the loop is left by SystemExit finds it either still held or
#   already settled by its main task, depending on the loop.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'uvloop==0.23.0'
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

import uvloop


async def leave():
    raise SystemExit(3)


async def main(went_on):
    try:
        await asyncio.create_task(leave())
    except SystemExit:
        went_on.append(True)


def seen_with(loop):
    went_on = []
    task = loop.create_task(main(went_on))
    try:
        loop.run_until_complete(task)
        left_by = None
    except SystemExit as left:
        left_by = left.code
    was = (left_by, bool(went_on))
    if not task.done():  # end what was left
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    return was


seen = {"asyncio": seen_with(asyncio.new_event_loop()), "uvloop": seen_with(uvloop.new_event_loop())}
print(seen)
assert seen == {"asyncio": (3, False), "uvloop": (3, True)}
PYTHON
