"""Procrastinate working off queued jobs that do nothing, 16 at once; runs in its own environment.

Reads {"dsn", "count"} from stdin; prints the wall and CPU seconds that the work took, without the queueing.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
import time

from procrastinate import App, PsycopgConnector

CONCURRENCY = 16


async def main(dsn: str, count: int) -> None:
    app = App(connector=PsycopgConnector(conninfo=dsn))

    @app.task(name="nothing")
    async def nothing() -> None:
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*[{}] * count)
        begun, cpu = time.perf_counter(), time.process_time()
        await app.run_worker_async(concurrency=CONCURRENCY, wait=False, install_signal_handlers=False)
        sys.stdout.write(
            json.dumps({"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu})
            + "\n"
        )


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    asyncio.run(main(asked["dsn"], asked["count"]))
