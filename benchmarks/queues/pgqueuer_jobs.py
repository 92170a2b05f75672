"""pgqueuer working off queued jobs that do nothing, in batches of 16; runs in its own environment.

Reads {"dsn", "count"} from stdin; prints the wall and CPU seconds that the work took, without the queueing.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = 16


async def main(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(dsn)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    await queries.enqueue(["nothing"] * count, [b"{}"] * count, [0] * count)

    @queuer.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        pass

    begun, cpu = time.perf_counter(), time.process_time()
    await queuer.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    sys.stdout.write(
        json.dumps({"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}) + "\n"
    )
    await connection.close()


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(asked["dsn"], asked["count"]))
