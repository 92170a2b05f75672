#!/usr/bin/env bash
# `max_retries=3` of taskiq's SimpleRetryMiddleware runs a task three times, not four.
# Package: taskiq 0.13.0
# Guess: Three retries come after the first try, as in dramatiq, huey and Celery: four runs in
#   all.
# Seen: The body runs three times, then "Maximum retries count is reached". The number counts
#   runs.
# Why it matters: A retry budget carried over from another queue, or `max_retries=1` for "once
#   more", gives no retry at all.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'taskiq==0.13.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import asyncio
import logging

from taskiq import InMemoryBroker, SimpleRetryMiddleware

logging.getLogger("taskiq").setLevel(logging.CRITICAL)


async def main(limit):
    broker = InMemoryBroker().with_middlewares(SimpleRetryMiddleware())
    runs = []

    @broker.task(retry_on_error=True, max_retries=limit)
    async def fails():
        runs.append(1)
        raise ValueError("no")

    await broker.startup()
    await fails.kiq()
    await asyncio.sleep(1)
    await broker.shutdown()
    return len(runs)


seen = {limit: asyncio.run(main(limit)) for limit in (1, 3)}
print("max_retries -> runs:", seen)
assert seen == {1: 1, 3: 3}, seen
PY
