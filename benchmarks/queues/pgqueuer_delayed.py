"""pgqueuer, which queues a job for later at each line of stdin and says when that ran.

Takes {"dsn", "delay_seconds"} on the first line; runs in its own environment.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
import time
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries


async def main(dsn: str, delay_seconds: float, lines: asyncio.StreamReader) -> None:
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(dsn))
    queries = Queries.from_asyncpg_connection(await asyncpg.connect(dsn))
    await queries.install()

    @queuer.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        say(handled_at=time.time(), due_at=job.execute_after.timestamp())

    async def queue_at_each_line() -> None:
        while await lines.readline():
            await queries.enqueue("nothing", b"{}", execute_after=timedelta(seconds=delay_seconds))

    async with asyncio.TaskGroup() as group:
        group.create_task(queuer.run())
        group.create_task(queue_at_each_line())
        await asyncio.sleep(1)  # it listens by then
        say(ready=True)


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def begin() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await main(**json.loads(await lines.readline()), lines=lines)


if __name__ == "__main__":
    uvloop.run(begin())
