#!/usr/bin/env bash
# langgraph-checkpoint-sqlite 3.0.2 installs beside an aiosqlite that it cannot open a database with.
#
# Packages: langgraph-checkpoint-sqlite 3.0.2, aiosqlite 0.22.1
# Guess: pip resolves them together, so they work together.
# Seen: `'Connection' object has no attribute 'is_alive'` at the first use of AsyncSqliteSaver.
# Why it matters: raising the floor of the one for a hole that was mended in it breaks graphs at run time, not at
#   installation. 3.1.2 works with the same aiosqlite.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
try() {
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet "langgraph-checkpoint-sqlite==$1" 'aiosqlite==0.22.1'
    "$folder/$1/bin/python" - <<'PYTHON'
import asyncio

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


async def main():
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        await saver.setup()


try:
    asyncio.run(main())
    print("works")
except AttributeError as missing:
    print(missing)
PYTHON
}
old=$(try 3.0.2)
new=$(try 3.1.2)
echo "3.0.2: $old"
echo "3.1.2: $new"
[ "$old" = "'Connection' object has no attribute 'is_alive'" ]
[ "$new" = "works" ]
