"""What a verb costs is counted here, since time says little on a shared machine: statements per request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from cgworker.kernel.app import Kernel
from cgworker.kernel.long_poll.other_kernels import APPLICATION_NAME
from tests.kernel.project import Agent, Project, token_of

WITH_CONTEXT = {"Prefer": "return=representation"}
SETTING_UP = ("pg_logical_emit_message", "set jit = off")
"""Words of the two statements that each new connection begins with."""


@pytest.fixture
async def worker(project: Project) -> Agent:
    """An agent whose credential's use has been noted just now."""
    agent = await project.agent("worker", capacity=100)
    await agent.claim()
    return agent


Count = Callable[[], int]


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many statements have been sent to PostgreSQL since it was asked last.

    Those of the notifier's connection come at their own time, for many requests. So do those of the timer,
    which looks when a kernel begins, and those that set up a connection when the pool opens another.
    """
    sent: list[str] = []

    def counting(name: str) -> Callable[..., Any]:
        published = getattr(asyncpg.connection.Connection, name)

        async def send(self: Any, statement: str, *values: Any, **more: Any) -> Any:
            is_setting_up = any(words in statement for words in SETTING_UP)
            is_notifier = self.get_settings().application_name == APPLICATION_NAME
            if not (is_notifier or is_setting_up or _is_in_background()):
                sent.append(statement)
            return await published(self, statement, *values, **more)

        return send

    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        monkeypatch.setattr(asyncpg.connection.Connection, name, counting(name))

    def since() -> int:
        count = len(sent)
        sent.clear()
        return count

    return since


def _is_in_background() -> bool:
    """Whether a task of the kernel's own sends something, and no request."""
    task = asyncio.current_task()
    return task is not None and getattr(task.get_coro(), "__qualname__", "") in (
        "Timers.run",
        "Maintenance.run",
    )


async def test_a_busy_verb_is_one_statement(worker: Agent, round_trips: Count) -> None:
    """Who calls is checked in it, and a claim brings its context with it."""
    await worker.claim(WITH_CONTEXT)
    assert round_trips() == 1
    turn_id = await worker.dispatch(worker)
    assert round_trips() == 1
    claim = await worker.claim(WITH_CONTEXT)
    assert claim["turn_id"] == turn_id
    assert len(claim["context"]["semantic_items"]) == 1
    assert round_trips() == 1
    await worker.append(claim, 1)
    assert round_trips() == 1
    await worker.renew(claim)
    assert round_trips() == 1
    await worker.dispatch(worker, authority={"mode": "child_derivation", "parent_claim": token_of(claim)})
    assert round_trips() == 1
    await worker.suspend(claim)
    assert round_trips() == 1
    await worker.resume(turn_id)
    assert round_trips() == 2
    await worker.finish(await worker.claim(), final_payload=1)
    assert round_trips() == 2


async def test_a_read_is_two_statements(worker: Agent, round_trips: Count) -> None:
    """The caller, and what is read; a context reads the turn and its records."""
    turn_id = await worker.dispatch(worker)
    round_trips()
    await worker.get(f"turns/{turn_id}")
    assert round_trips() == 2
    await worker.get(f"turns/{turn_id}/context")
    assert round_trips() == 3


async def test_many_items_cost_as_much_as_one(worker: Agent, round_trips: Count) -> None:
    """One statement claims, renews or settles them all; also one that settles and claims the next."""
    for _ in range(10):
        await worker.dispatch(worker)
    round_trips()
    item = {"agent": worker.json, "credential": worker.credential, "limit": 5}
    (found,) = (await worker.post("claims:claim-many", {"items": [item]}, WITH_CONTEXT))["items"]
    assert len(found["body"]) == 5
    assert round_trips() == 1
    held = [{"claim": token_of(claim), "credential": worker.credential} for claim in found["body"]]
    await worker.post("claims:renew-many", {"items": held})
    assert round_trips() == 1
    settling = [{**one, "finish": {"outcome": "succeeded"}, "next": {}} for one in held]
    found = (await worker.post("turns:settle-many", {"items": settling}, WITH_CONTEXT))["items"]
    assert round_trips() == 1
    held = [{"claim": token_of(each["next"]["body"]), "credential": worker.credential} for each in found]
    assert len(held) == 5
    await worker.post(
        "turns:settle-many", {"items": [{**one, "finish": {"outcome": "succeeded"}} for one in held]}
    )
    assert round_trips() == 1


@contextmanager
def busy(kernel: Kernel) -> Iterator[None]:
    """Many other requests are under way."""
    kernel.operations.load.count += 100
    try:
        yield
    finally:
        kernel.operations.load.count -= 100


async def test_what_waits_shares_a_statement(kernel: Kernel, worker: Agent, round_trips: Count) -> None:
    """Twenty dispatches that come at once are three statements at most."""
    round_trips()
    with busy(kernel):
        await asyncio.gather(*(worker.dispatch(worker) for _ in range(20)))
    assert round_trips() <= 3


INDEXES = """
select i.indrelid::regclass::text as table_name, coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') as holds
from pg_index i
join pg_class c on c.oid = i.indrelid
where c.relname = any (array['cg_turns', 'cg_records', 'cg_ledger', 'cg_idempotency_keys'])
    and c.relnamespace = current_schema()::regnamespace
"""


async def test_what_ends_a_turn_and_claims_the_next_enters_few_indexes(
    worker: Agent, project: Project
) -> None:
    """Most of PostgreSQL's work for a turn is to enter its rows into indexes: 17 entries."""
    for _ in range(2):
        await worker.dispatch(worker)
    await worker.finish(await worker.claim({"Idempotency-Key": "first"}), final_payload="done")
    await worker.claim({"Idempotency-Key": "second"})
    number = "turn_number = (select turn_count from cg_projects where project_id = $1)"
    written = {
        "cg_turns": "state in ('running', 'closed')",
        "cg_records": "turn_seq = 2",
        "cg_ledger": f"event_type in ('turn.progress_appended', 'turn.finished') or"
        f" (event_type = 'turn.claimed' and {number})",
        "cg_idempotency_keys": number,
    }
    database, counts = project.kernel.database, Counter[str]()
    for index in await database.fetch(INDEXES):
        table, holds = index["table_name"], index["holds"]
        sql = f"select count(*) from {table} where project_id = $1 and ({written[table]}) and ({holds})"
        counts[table] += await database.fetchval(sql, project.id)
    assert counts == {"cg_turns": 11, "cg_records": 1, "cg_ledger": 3, "cg_idempotency_keys": 2}
