"""DBOS working off queued workflows that do nothing; runs in its own environment.

Reads {"dsn", "count"} from stdin; prints the wall and CPU seconds that the work took, without the queueing.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
from dbos import DBOS, DBOSClient

CONCURRENCY = 160  # as many as sixteen agents of ours with a capacity of ten hold
POLL_SECONDS = 0.02
QUEUE = "bench"
OPEN = "select count(*) from dbos.workflow_status where status <> 'SUCCESS'"


def main(dsn: str, count: int) -> None:
    DBOS(config={"name": "bench", "system_database_url": dsn, "log_level": "ERROR", "sys_db_pool_size": 20})

    @DBOS.workflow(name="nothing")
    async def nothing() -> dict[str, int]:
        return {}

    DBOS.launch()
    client = DBOSClient(system_database_url=dsn)
    with ThreadPoolExecutor(8) as threads:
        for queued in [
            threads.submit(client.enqueue, {"workflow_name": "nothing", "queue_name": QUEUE})
            for _ in range(count)
        ]:
            queued.result()
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute(OPEN).fetchone() == (count,)
        begun, cpu = time.perf_counter(), time.process_time()
        DBOS.register_queue(QUEUE, worker_concurrency=CONCURRENCY, polling_interval_sec=POLL_SECONDS)
        while connection.execute(OPEN).fetchone() != (0,):
            time.sleep(POLL_SECONDS)
    took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()
    os._exit(0)  # its threads would wait for their next look


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    main(asked["dsn"], asked["count"])
