"""The schema is brought forward once, by whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

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
    connection = await asyncpg.connect(dsn)
    try:
        return await migrate(connection)
    finally:
        await connection.close()


async def execute(dsn: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *values)
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
    """Once the schema is there, nothing has to be created."""
    await migrated(empty)
    await execute(empty, "drop role if exists cg_plain")
    await execute(empty, "create role cg_plain")
    await execute(empty, "grant select, insert on cg_migrations to cg_plain")
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute("set role cg_plain")
        assert await migrate(connection) == ()
    finally:
        await connection.execute("reset role")
        await connection.execute("drop owned by cg_plain")
        await connection.execute("drop role cg_plain")
        await connection.close()


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


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All migrations of a start are one transaction."""
    broken = (Migration("0001_good.sql", "create table one ()"), Migration("0002_bad.sql", "create nonsense"))
    monkeypatch.setattr(migrating, "known_migrations", lambda: broken)
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await migrated(empty)
    monkeypatch.undo()
    assert await migrated(empty) == tuple(migration.name for migration in known_migrations())
