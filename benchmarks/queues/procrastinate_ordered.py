"""Procrastinate takes jobs out of a table with many queued ones of 100,000 locks, and of an empty one.

Takes {"dsn", "job_count", "cycle_count"} on the first line of stdin; prints the middle of each, in ms.
"""

# mypy: disable-error-code="import-not-found"
# What it imports is in an environment of its own.

import asyncio
import json
import statistics
import sys
import time

import procrastinate
import psycopg
from procrastinate.jobs import Status

QUEUED = """
insert into procrastinate_jobs (queue_name, task_name, priority, lock, args, status)
select 'full', 'nothing', n % 1000, 'serial-' || n % 100000, '{}', 'todo' from generate_series(1, %s) n
"""


async def main(dsn: str, job_count: int, cycle_count: int) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute("set session_replication_role = replica")  # no event for each
            await connection.execute(QUEUED.replace("%s", str(job_count)))
            await connection.execute("vacuum analyze procrastinate_jobs")
        manager, took = app.job_manager, {"empty": list[float](), "full": list[float]()}
        worker = await manager.register_worker()
        for _ in range(cycle_count):
            await app.configure_task("nothing", queue="empty", allow_unknown=True).defer_async()
            for where, seconds in took.items():
                begun = time.perf_counter()
                job = await manager.fetch_job([where], worker)
                seconds.append(time.perf_counter() - begun)
                assert job is not None
                await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    middle = {where: statistics.median(seconds) * 1000 for where, seconds in took.items()}
    sys.stdout.write(json.dumps(middle) + "\n")


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.stdin.readline())))
