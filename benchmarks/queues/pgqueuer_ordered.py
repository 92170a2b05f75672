"""pgqueuer takes jobs out of a table with many queued ones of 1,000 priorities, and out of an empty one.

Takes {"dsn", "job_count", "cycle_count"} on the first line of stdin; prints the middle of each, in ms.
"""

# mypy: disable-error-code="import-not-found"
# What it imports is in an environment of its own.

import asyncio
import json
import statistics
import sys
import time
import uuid
from datetime import timedelta

import asyncpg
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries

QUEUED = """
insert into pgqueuer (entrypoint, payload, priority, status)
select 'full', '{}', n % 1000, 'queued' from generate_series(1, $1) n
"""


async def main(dsn: str, job_count: int, cycle_count: int) -> None:
    connection = await asyncpg.connect(dsn, command_timeout=300)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    await connection.execute("set session_replication_role = replica")  # no notification for each
    await connection.execute(QUEUED.replace("$1", str(job_count)))
    await connection.execute("reset session_replication_role")
    await connection.execute("vacuum analyze pgqueuer")
    worker, took = uuid.uuid4(), {"empty": list[float](), "full": list[float]()}
    for _ in range(cycle_count):
        await queries.enqueue("empty", b"{}")
        for where, seconds in took.items():
            begun = time.perf_counter()
            [job] = await queries.dequeue(
                1,
                {where: EntrypointExecutionParameter(concurrency_limit=0)},
                worker,
                None,
                timedelta(hours=1),
            )
            seconds.append(time.perf_counter() - begun)
            await queries.log_jobs([(job, "successful", None)])
    middle = {where: statistics.median(seconds) * 1000 for where, seconds in took.items()}
    sys.stdout.write(json.dumps(middle) + "\n")


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.stdin.readline())))
