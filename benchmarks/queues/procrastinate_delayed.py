"""Procrastinate, which defers a job for later at each line of stdin and says when that ran.

Takes {"dsn", "delay_seconds"} on the first line; runs in its own environment.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate


async def main(dsn: str, delay_seconds: float, lines: asyncio.StreamReader) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))

    @app.task(name="nothing")
    async def nothing(due_at: float) -> None:
        say(handled_at=time.time(), due_at=due_at)

    async def defer_at_each_line() -> None:
        while await lines.readline():
            due_at = datetime.now(UTC) + timedelta(seconds=delay_seconds)
            await nothing.configure(schedule_at=due_at).defer_async(due_at=due_at.timestamp())

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with asyncio.TaskGroup() as group:
            group.create_task(app.run_worker_async(install_signal_handlers=False))
            group.create_task(defer_at_each_line())
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
    asyncio.run(begin())
