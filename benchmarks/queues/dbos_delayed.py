"""DBOS, which queues a workflow for later at each line of stdin and says when that ran.

Takes {"dsn", "delay_seconds"} on the first line; runs in its own environment.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import json
import os
import sys
import time
from typing import Any

from dbos import DBOS, SetEnqueueOptions

POLL_SECONDS = 0.02  # by default it looks once a second
QUEUE = "bench"


def main(dsn: str, delay_seconds: float) -> None:
    DBOS(config={"name": "bench", "system_database_url": dsn, "log_level": "ERROR", "sys_db_pool_size": 20})

    @DBOS.workflow(name="nothing")
    def nothing(due_at: float) -> None:
        say(handled_at=time.time(), due_at=due_at)

    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLL_SECONDS)
    say(ready=True)
    for _ in sys.stdin:
        due_at = time.time() + delay_seconds
        with SetEnqueueOptions(delay_seconds=delay_seconds):
            DBOS.enqueue_workflow(QUEUE, nothing, due_at)
    os._exit(0)  # its threads would wait for their next look


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(**json.loads(sys.stdin.readline()))
