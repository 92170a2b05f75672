#!/usr/bin/env bash
# aiolimiter's `AsyncLimiter(10, 1)` lets about twenty through in the first second.
# Package: aiolimiter 1.3.0
# Guess: At most 10 entries fall into any window of 1 second.
# Seen: 19 entries in the first second: a full bucket of 10 at once, and it refills while they
#   pass.
# Why it matters: A worker kept to a provider's limit of n calls a second meets 429 in its first
#   second after every pause.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'aiolimiter==1.3.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import asyncio
import time

from aiolimiter import AsyncLimiter


async def main():
    limiter, entries, started = AsyncLimiter(10, 1), 0, time.monotonic()
    while True:
        async with limiter:
            if time.monotonic() - started >= 1:
                return entries
            entries += 1


entries = asyncio.run(main())
print("entries in the first second:", entries)
assert entries > 15, entries
PY
