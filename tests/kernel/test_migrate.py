"""The schema is brought forward once, by whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres import migrate as migrating
from cgworker.kernel.store.postgres.migrate import Migration, known_migrations, migrate
from tests.databases import a_database


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """The address of a database without a schema."""
    with a_database(postgres) as dsn:
        yield dsn


async def migrated(dsn: str) -> tuple[str, ...]:
    """Migrate as one kernel does; returns what it applied."""
    return await migrate(lambda: asyncpg.connect(dsn))


async def execute(dsn: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def value(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_kernels_that_start_at_once_apply_each_migration_once(empty: str) -> None:
    """One of eight applies everything, in order; the others wait and find nothing to do."""
    applied = await asyncio.gather(*(migrated(empty) for _ in range(8)))
    names = tuple(migration.name for migration in known_migrations())
    assert sorted(applied, key=len) == [()] * 7 + [names]
    assert names == tuple(sorted(names))


async def test_a_migrated_database_is_left_as_it_is(empty: str) -> None:
    """Starting again applies nothing."""
    assert await migrated(empty)
    assert await migrated(empty) == ()


async def test_a_role_that_may_only_read_and_write_can_start_a_kernel(empty: str) -> None:
    """Once the schema is there, nothing has to be created; what is only to be removed can wait."""
    await migrated(empty)
    await execute(empty, "delete from cg_migrations where name = '0014_old_order.sql'")
    await execute(empty, "drop role if exists cg_plain")
    await execute(empty, "create role cg_plain")
    await execute(empty, "grant select, insert on cg_migrations to cg_plain")

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(empty)
        await connection.execute("set role cg_plain")
        return connection

    try:
        assert await migrate(connect) == ()
    finally:
        await execute(empty, "drop owned by cg_plain")
        await execute(empty, "drop role cg_plain")


async def test_a_newer_database_is_refused(empty: str) -> None:
    """An old kernel does not write into a schema that it does not know."""
    await migrated(empty)
    await execute(empty, migrating.INSERT_MIGRATION, "9999_later.sql", "x")
    with pytest.raises(UsageError, match=r"newer than this version .*9999_later\.sql.*: upgrade cgworker"):
        await migrated(empty)


async def test_a_database_made_by_other_files_is_refused(empty: str) -> None:
    """A migration that changed after it was applied is told apart by its checksum."""
    await migrated(empty)
    await execute(empty, "update cg_migrations set checksum = 'x' where name = '0001_initial.sql'")
    with pytest.raises(UsageError, match=r"another 0001_initial\.sql"):
        await migrated(empty)


async def test_a_database_made_by_0_1_is_taken(empty: str) -> None:
    """Comments of its first file have changed since; the schema is the same."""
    await migrated(empty)
    checksum = "9851ef57fef4a2c9c36d4089742fda61de5cdbec90ba585375eccb328aa28ebe"
    await execute(empty, "update cg_migrations set checksum = $1 where name = '0001_initial.sql'", checksum)
    assert await migrated(empty) == ()


@pytest.mark.parametrize(
    ("name", "checksum"),
    [
        ("0001_initial.sql", "6142acb3652d589a077227510363a6d150afade9f397d1406a030a708f67f7df"),
        ("0002_admission.sql", "d52e78754532ef119c47926f24133fb99cbd0126a5eba46b6befa1901b912cf6"),
        ("0003_callers.sql", "3316dc40d9d5d72ce3d0b4e30229b30dd8d86fffc496560e2980c56e6bdd7f0d"),
        ("0004_lists.sql", "07a2c10ebf9538e6d7ab2b7227d446cc8e24db4032fe4fa54aa6db310889cb03"),
    ],
)
def test_a_released_file_is_not_changed(name: str, checksum: str) -> None:
    """A database that was made by it would be refused."""
    assert {each.name: each.checksum for each in known_migrations()}[name] == checksum


async def test_a_file_that_fails_leaves_nothing_behind_and_those_before_it_stay(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is a transaction; the next start goes on where this one stopped."""
    good = Migration("0001_good.sql", "create table one ()")
    broken = Migration("0002_bad.sql", "create table two (); create nonsense")
    monkeypatch.setattr(migrating, "known_migrations", lambda: (good, broken))
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await migrated(empty)
    mended = Migration("0002_bad.sql", "create table two ()")
    monkeypatch.setattr(migrating, "known_migrations", lambda: (good, mended))
    assert await migrated(empty) == ("0002_bad.sql",)


async def test_an_index_that_was_not_finished_is_built_anew(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL leaves an invalid index if its build fails or is killed: it is no reason to skip it."""
    made = Migration("0001_made.sql", "create table one (n int); insert into one values (1), (1)")
    index = Migration(
        "0002_index.sql",
        "-- transaction: none\n"
        "create index concurrently if not exists one_first on one (n);\n"
        "-- Of duplicates, its build fails.\n"
        "create unique index concurrently if not exists one_key on one (n);\n",
    )
    monkeypatch.setattr(migrating, "known_migrations", lambda: (made, index))
    with pytest.raises(asyncpg.UniqueViolationError):
        await migrated(empty)
    assert await value(empty, "select not indisvalid from pg_index where indexrelid = 'one_key'::regclass")
    await execute(empty, "delete from one")
    assert await migrated(empty) == ("0002_index.sql",)
    assert await value(empty, "select indisvalid from pg_index where indexrelid = 'one_key'::regclass")


async def test_a_migration_that_waits_for_a_table_does_not_block_claims_behind_it(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is waited for stops all who come after; so the migration gives up for a while."""
    made = Migration("0001_made.sql", "create table one (n int)")
    change = Migration("0002_change.sql", "alter table one add m int")
    monkeypatch.setattr(migrating, "known_migrations", lambda: (made,))
    await migrated(empty)
    monkeypatch.setattr(migrating, "known_migrations", lambda: (made, change))
    reader = await asyncpg.connect(empty)
    async with reader.transaction():
        await reader.fetch("select from one")  # as pg_dump, it holds a lock until its end
        waiting = asyncio.create_task(migrated(empty))
        while not await value(empty, "select count(*) from pg_locks where not granted"):
            assert not waiting.done()
        async with asyncio.timeout(60):
            await execute(empty, "insert into one values (1)")
    assert await waiting == ("0002_change.sql",)
    await reader.close()


async def test_a_kernel_that_waits_for_another_does_not_hold_up_its_indexes(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is built concurrently waits for all older snapshots; who waits for the lock has none."""
    index = Migration(
        "0002_index.sql",
        "-- transaction: none\ncreate index concurrently if not exists one_n on one (n);\n",
    )
    made = Migration("0001_made.sql", "create table one (n int); select pg_sleep(0.3)")
    monkeypatch.setattr(migrating, "known_migrations", lambda: (made, index))
    async with asyncio.timeout(60):
        applied = await asyncio.gather(*(migrated(empty) for _ in range(3)))
    assert sorted(applied, key=len) == [(), (), ("0001_made.sql", "0002_index.sql")]


async def test_a_file_that_replaces_one_is_not_run_after_it(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the old file ran, the new one has nothing to do, and the old name is no newer version's."""
    old = Migration("0001_old.sql", "create table one ()")
    new = Migration("0001_new.sql", "-- replaces: 0001_old.sql\ncreate table one ()")
    monkeypatch.setattr(migrating, "known_migrations", lambda: (old,))
    await migrated(empty)
    monkeypatch.setattr(migrating, "known_migrations", lambda: (new,))
    assert await migrated(empty) == ()


async def test_a_database_of_the_version_before_is_not_rewritten_and_keeps_the_order_of_its_turns(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels claim on meanwhile, by an index that is dropped at the first start without them."""
    known = known_migrations()
    monkeypatch.setattr(migrating, "known_migrations", lambda: known[:6])
    await migrated(empty)
    monkeypatch.undo()
    await execute(empty, OLD_TURNS)
    file_before = await value(empty, "select pg_relation_filenode('cg_turns')")
    older = await asyncpg.connect(empty, server_settings={"application_name": "cgworker"})
    names = [migration.name for migration in known[6:]]
    left = tuple(m.name for m in known if "unless connected" in m.headers)
    assert await migrated(empty) == tuple(name for name in names if name not in left)
    assert await value(empty, "select to_regclass('cg_turns_queued')") == "cg_turns_queued"
    await older.close()
    while await value(empty, "select count(*) from pg_stat_activity where application_name = 'cgworker'"):
        pass
    assert await migrated(empty) == left
    assert await value(empty, "select to_regclass('cg_turns_queued')") is None
    assert await value(empty, "select pg_relation_filenode('cg_turns')") == file_before
    assert await value(empty, NEXT_TURNS) == [1, 2, 3]


async def test_a_published_ledger_keeps_its_key(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, PostgreSQL would refuse to number its events."""
    known = known_migrations()
    monkeypatch.setattr(migrating, "known_migrations", lambda: known[:16])
    await migrated(empty)
    monkeypatch.undo()
    await execute(empty, "create publication events for table cg_ledger")
    assert await migrated(empty) == ("0017_ledger_key.sql",)
    assert await value(empty, "select to_regclass('cg_ledger_pkey')") == "cg_ledger_pkey"


OLD_TURNS = """
insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind, cause_kind,
    cause_id, spawn_key, state, created_at, updated_at)
select 'p', n, 'a', 'b', 'k', 'external_request', 'c', n, 'queued', now(), now()
from generate_series(1, 3) n
"""

NEXT_TURNS = """
select array_agg(turn_number order by priority desc, fair_number, turn_number)
from cg_turns t
where project_id = 'p' and target_agent_id = 'a' and cg_is_ready(t.state, t.due_at, t.waits_for_key)
"""
