#!/usr/bin/env bash
# A cancelled aiosqlite `execute` carries on and its row is stored.
# Package: aiosqlite 0.22.1
# Guess: CancelledError out of `await db.execute(...)` means that the statement was interrupted
#   or never ran.
# Seen: The caller sees CancelledError within milliseconds; the insert goes on in the
#   connection's thread, and the next statement on that connection waits for it and finds the
#   row.
# Why it matters: A checkpoint or step written under a time limit is there although its writer
#   was told that it was not, and a retry writes it twice.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'aiosqlite==0.22.1'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import asyncio

import aiosqlite

SLOW = """insert into t with recursive r(i) as
    (select 1 union all select i + 1 from r where i < 2000000) select max(i) from r"""


async def main():
    async with aiosqlite.connect("data.sqlite", isolation_level=None) as db:
        await db.execute("create table t(x)")
        task = asyncio.create_task(db.execute(SLOW))
        await asyncio.sleep(0.05)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        async with db.execute("select count(*) from t") as cursor:
            return outcome, (await cursor.fetchone())[0]


outcome, rows = asyncio.run(main())
print("outcome:", repr(outcome), "rows:", rows)
assert isinstance(outcome, asyncio.CancelledError), outcome
assert rows == 1, rows
PY
