"""pgqueuer with jobs that come and are done, so many a second, until stdin ends, for its web page to show.

Takes {"dsn", "jobs_a_second"} on the first line; runs in its own environment.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries


async def main(dsn: str, jobs_a_second: float, lines: asyncio.StreamReader) -> None:
    queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(dsn))
    queries = Queries.from_asyncpg_connection(await asyncpg.connect(dsn))
    await queries.install()

    @queuer.entrypoint("nothing")
    async def nothing(_: Job) -> None:
        pass

    async def queue_evenly() -> None:
        while True:
            await queries.enqueue("nothing", b"{}")
            await asyncio.sleep(1 / jobs_a_second)

    tasks = [asyncio.create_task(queuer.run()), asyncio.create_task(queue_evenly())]
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    await lines.read()
    for task in tasks:
        task.cancel()


async def begin() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await main(**json.loads(await lines.readline()), lines=lines)


if __name__ == "__main__":
    uvloop.run(begin())
