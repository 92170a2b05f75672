"""Absurd working off queued tasks that do nothing, 16 at once; runs in its own environment.

Reads {"dsn", "count"} from stdin; prints the wall and CPU seconds that the work took, without the queueing.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
import time
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL

CONCURRENCY, BATCH = 16, 64
POLL_SECONDS = 0.01
QUEUE = "bench"
SPAWN = "select absurd.spawn_task(%s, 'nothing', '{}'::jsonb, '{}'::jsonb) from generate_series(1, %s)"
OPEN = f"select count(*) from absurd.t_{QUEUE} where state <> 'completed'"


async def main(dsn: str, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(BUNDLED_SCHEMA_SQL)
        app, done_count = AsyncAbsurd(dsn, queue_name=QUEUE), 0
        await app.create_queue(QUEUE)
        await connection.execute(SPAWN, (QUEUE, count))

        @app.register_task(name="nothing")
        async def nothing(params: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001  # it is called so
            nonlocal done_count
            done_count += 1
            if done_count == count:
                app.stop_worker()
            return {}

        begun, cpu = time.perf_counter(), time.process_time()
        await app.start_worker(concurrency=CONCURRENCY, batch_size=BATCH, poll_interval=POLL_SECONDS)
        took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
        row = await (await connection.execute(OPEN)).fetchone()
        assert row == (0,), row
        sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    asyncio.run(main(asked["dsn"], asked["count"]))
