"""Migrate the database to this version's schema: forward only, each file once, one kernel at a time."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from attrs import field, frozen

from cgworker.errors import UsageError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

OLDEST_POSTGRESQL = 15
"""The oldest major version that runs the SQL of the store."""


@frozen
class Migration:
    """A file of SQL. A published file never changes: the database keeps its checksum with its name."""

    name: str
    sql: str = field(repr=False)

    @property
    def checksum(self) -> str:
        """The SHA-256 of the SQL, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this version, ordered by name."""
    folder = files("cgworker.kernel.store").joinpath("migrations")
    found = [Migration(file.name, file.read_text("utf-8")) for file in folder.iterdir()]
    return tuple(sorted((m for m in found if m.name.endswith(".sql")), key=lambda m: m.name))


# Held until the transaction ends. The number is "cgworker" in ASCII, which no other program uses.
LOCK = "select pg_advisory_xact_lock(x'6367776f726b6572'::bigint)"

CREATE_MIGRATIONS = """
create table if not exists cg_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""

FIND_MIGRATIONS = "select to_regclass('cg_migrations') is not null"

LIST_MIGRATIONS = "select name, checksum from cg_migrations"

INSERT_MIGRATION = "insert into cg_migrations (name, checksum) values ($1, $2)"


async def migrate(connection: Connection[Record]) -> tuple[str, ...]:
    """Apply the missing migrations, all or none; several kernels may do it at once.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        UsageError: the server is too old, or the database was made by a newer version or by changed files.
    """
    _check_server(connection)
    async with connection.transaction():
        await connection.execute(LOCK)
        applied = await _applied(connection)
        missing = _missing(known_migrations(), applied)
        for migration in missing:
            await _apply(connection, migration)
    return tuple(migration.name for migration in missing)


async def _applied(connection: Connection[Record]) -> dict[str, str]:
    """Return the applied checksums by name; create the table only if it is missing, for restricted roles."""
    if not await connection.fetchval(FIND_MIGRATIONS):
        await connection.execute(CREATE_MIGRATIONS)
    return {row["name"]: row["checksum"] for row in await connection.fetch(LIST_MIGRATIONS)}


async def _apply(connection: Connection[Record], migration: Migration) -> None:
    await connection.execute(migration.sql)
    await connection.execute(INSERT_MIGRATION, migration.name, migration.checksum)


def _check_server(connection: Connection[Record]) -> None:
    major = connection.get_server_version().major
    if major < OLDEST_POSTGRESQL:
        raise UsageError(
            f"PostgreSQL {major} is too old: cgworker needs {OLDEST_POSTGRESQL} or newer; "
            "leave PG_DSN unset to use the embedded one"
        )


def _missing(known: tuple[Migration, ...], applied: dict[str, str]) -> tuple[Migration, ...]:
    newer = sorted(applied.keys() - {migration.name for migration in known})
    if newer:
        raise UsageError(
            f"the database is newer than this version of cgworker (it has {newer[-1]}): upgrade cgworker"
        )
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise UsageError(
                f"the database was made with another {migration.name} than this version of cgworker has: "
                "use the version that made it, or a new database"
            )
    return tuple(migration for migration in known if migration.name not in applied)
