"""What the end of one turn and the claim of the next write to PostgreSQL's log, counted.

Each entry of an index and each row costs time that a shared machine does not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.kernel.project import Agent, Project, token_of

TURNS = 40
RECORDS = """
select resource_manager || ' ' || split_part(record_type, '+', 1) as kind, count(*)::float / $3 as count
from pg_get_wal_records_info($1, $2)
where resource_manager in ('Btree', 'Heap', 'Heap2')
group by 1
"""

MARK = "select pg_logical_emit_message(true, 'tests', 'mark')"  # returns its place in the log


@pytest.fixture
async def wal(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection that can read PostgreSQL's log."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create extension if not exists pg_walinspect")
        # A mark is on the disk when it returns, so that the log can be read up to it.
        await connection.execute("set synchronous_commit = on")
        yield connection
    except asyncpg.FeatureNotSupportedError:
        # The embedded one; `make test-postgres` has it.
        pytest.skip("this PostgreSQL has no pg_walinspect")
    finally:
        await connection.close()


async def settled(worker: Agent, claims: list[Any]) -> None:
    """Finish turns and claim as many, in one request."""
    items = [
        {
            "claim": token_of(claim),
            "credential": worker.credential,
            "finish": {"outcome": "succeeded", "final_payload": {"n": number}},
            "next": {"idempotency_key": f"next-{number}"},
        }
        for number, claim in enumerate(claims)
    ]
    answers = (await worker.post("turns:settle-many", {"items": items}))["items"]
    assert all(answer["status"] == 200 and answer["next"]["body"] for answer in answers)


async def test_a_turns_end_and_the_next_claim_write_a_known_number_of_entries(
    project: Project, wal: asyncpg.Connection[Any]
) -> None:
    """Seventeen entries of indexes, five rows, and two versions of turns; what is more is a step back."""
    worker = await project.agent("worker", capacity=TURNS)
    for _ in range(2 * TURNS):
        await worker.dispatch(worker)
    claims = [await worker.claim() for _ in range(TURNS)]
    await wal.execute("checkpoint")
    begun = await wal.fetchval(MARK)
    await settled(worker, claims)
    ended = await wal.fetchval(MARK)
    counts = Counter({row["kind"]: row["count"] for row in await wal.fetch(RECORDS, begun, ended, TURNS)})
    assert counts["Btree INSERT_LEAF"] + counts["Btree INSERT_POST"] == pytest.approx(17, abs=0.6)
    assert counts["Heap INSERT"] + counts["Heap2 MULTI_INSERT"] == pytest.approx(5, abs=0.3)
    assert counts["Heap UPDATE"] + counts["Heap HOT_UPDATE"] == pytest.approx(2, abs=0.1)
