"""Migrate the database to this version's schema: forward only, each file once, one kernel at a time.

Kernels of the version before go on claiming meanwhile. So a file commits by itself, waits for a lock only so
long that claims behind it do not notice, and is tried again; an index of a large table is built in a file
without a transaction. A kernel that is killed while it migrates leaves whole files; the next one goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from attrs import field, frozen

from cgworker.errors import UsageError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Connect: TypeAlias = Callable[[], Awaitable[Connection[Record]]]

logger: logging.Logger = logging.getLogger("cgworker.kernel")

OLDEST_POSTGRESQL = 15
"""The oldest major version that runs the SQL of the store."""

# Files whose comments alone have changed after a release: what the database may have of them, too.
_FORMER_CHECKSUMS = {
    # 0.1 calls differences decisions.
    "0001_initial.sql": "9851ef57fef4a2c9c36d4089742fda61de5cdbec90ba585375eccb328aa28ebe",
}

_PAUSE_SECONDS = 1.0  # between two tries to get a table's lock, in which claims catch up
_POLL_SECONDS = 0.1
_SAY_SECONDS = 10.0

_HEADER = re.compile(r"-- (replaces|transaction|unless connected): (.+)")
_INDEX = re.compile(r"create (?:unique )?index concurrently if not exists (\w+)")


@frozen
class Migration:
    """A file of SQL. A published file never changes: the database keeps its checksum with its name.

    The file may begin with these comments:

    - `-- transaction: none`: each statement runs by itself, `create index concurrently if not exists` alone;
    - `-- unless connected: NAME`: the file is left to a later start while a connection has this name;
    - `-- replaces: FILE`: the file needs not run where that one did.
    """

    name: str
    sql: str = field(repr=False)

    @property
    def checksum(self) -> str:
        """The SHA-256 of the SQL, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def headers(self) -> dict[str, str]:
        """The file's first comments that say how it runs."""
        lines = iter(self.sql.splitlines())
        found: dict[str, str] = {}
        while match := _HEADER.fullmatch(next(lines, "")):
            found[match[1]] = match[2]
        return found

    @property
    def statements(self) -> list[str]:
        """The statements of a file without a transaction."""
        lines = [line for line in self.sql.splitlines() if not line.startswith("--")]
        return [text for part in "\n".join(lines).split(";") if (text := part.strip())]


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this version, ordered by name."""
    folder = files("cgworker.kernel.store").joinpath("migrations")
    found = [Migration(file.name, file.read_text("utf-8")) for file in folder.iterdir()]
    return tuple(sorted((m for m in found if m.name.endswith(".sql")), key=lambda m: m.name))


# Held until the transaction ends. The number is "cgmigrat" in ASCII, which no other program uses. Who waits
# asks again and again: a statement that waits holds a snapshot, and the building of an index waits for those.
TRY_LOCK = "select pg_try_advisory_xact_lock(x'63676d6967726174'::bigint)"

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

# How long claims may wait behind a file that waits for a table's lock.
LIMIT_LOCK_WAIT = "set local lock_timeout = '200ms'"

IS_CONNECTED = """
select exists (
    select from pg_stat_activity where datname = current_database() and application_name = $1
)
"""

IS_INVALID = "select exists (select from pg_index where indexrelid = to_regclass($1) and not indisvalid)"


async def migrate(connect: Connect) -> tuple[str, ...]:
    """Apply the missing migrations, each all or not at all; several kernels may do it at once.

    Args:
        connect: opens a connection to the database; it is called twice if anything is missing.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        UsageError: the server is too old, or the database was made by a newer version or by changed files.
    """
    connection = await connect()
    try:
        _check_server(connection)
        if not _missing(known_migrations(), await _applied(connection)):
            return ()
        async with _alone(connect):
            return await _migrate(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def _alone(connect: Connect) -> AsyncIterator[None]:
    """Wait until no other kernel migrates, and keep others from it until the block ends.

    The lock is held by a transaction of its own connection, which works through poolers too.
    """
    connection = await connect()
    try:
        while True:
            async with connection.transaction():
                if await connection.fetchval(TRY_LOCK):
                    await connection.execute("set local idle_in_transaction_session_timeout = 0")
                    yield
                    return
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await connection.close()


async def _migrate(connection: Connection[Record]) -> tuple[str, ...]:
    if not await connection.fetchval(FIND_MIGRATIONS):
        await connection.execute(CREATE_MIGRATIONS)
    done = []
    for migration in _missing(known_migrations(), await _applied(connection)):
        can_wait = "unless connected" in migration.headers
        if can_wait and await connection.fetchval(IS_CONNECTED, migration.headers["unless connected"]):
            logger.info("older kernels run: a kernel that starts without them runs %s", migration.name)
            continue
        try:
            await _apply(connection, migration)
        except asyncpg.InsufficientPrivilegeError as refused:
            if not can_wait:
                raise
            logger.warning("%s waits for a kernel whose role may run it: %s", migration.name, refused)
        else:
            done.append(migration.name)
    return tuple(done)


async def _applied(connection: Connection[Record]) -> dict[str, str]:
    """Return the applied checksums by name."""
    if not await connection.fetchval(FIND_MIGRATIONS):
        return {}
    return {row["name"]: row["checksum"] for row in await connection.fetch(LIST_MIGRATIONS)}


async def _apply(connection: Connection[Record], migration: Migration) -> None:
    run = _run_statements if migration.headers.get("transaction") == "none" else _run_in_transaction
    loop = asyncio.get_running_loop()
    say_at = loop.time() + _SAY_SECONDS
    while True:
        try:
            return await run(connection, migration)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if loop.time() >= say_at:
                say_at += _SAY_SECONDS
                logger.warning("%s waits for a lock that another session holds", migration.name)
            await asyncio.sleep(_PAUSE_SECONDS)


async def _run_in_transaction(connection: Connection[Record], migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(LIMIT_LOCK_WAIT)
        await connection.execute(migration.sql)
        await connection.execute(INSERT_MIGRATION, migration.name, migration.checksum)


async def _run_statements(connection: Connection[Record], migration: Migration) -> None:
    """Run each statement by itself; an index that a killed kernel did not finish is built anew."""
    for statement in migration.statements:
        index = _INDEX.match(statement)
        if index and await connection.fetchval(IS_INVALID, index[1]):
            await connection.execute(f"drop index concurrently {index[1]}")
        await connection.execute(statement)
    await connection.execute(INSERT_MIGRATION, migration.name, migration.checksum)


def _check_server(connection: Connection[Record]) -> None:
    major = connection.get_server_version().major
    if major < OLDEST_POSTGRESQL:
        raise UsageError(
            f"PostgreSQL {major} is too old: cgworker needs {OLDEST_POSTGRESQL} or newer; "
            "leave PG_DSN unset to use the embedded one"
        )


def _missing(known: tuple[Migration, ...], applied: dict[str, str]) -> tuple[Migration, ...]:
    replaced = {migration.headers.get("replaces") for migration in known}
    newer = sorted(applied.keys() - {migration.name for migration in known} - replaced)
    if newer:
        raise UsageError(
            f"the database is newer than this version of cgworker (it has {newer[-1]}): upgrade cgworker"
        )
    for migration in known:
        checksums = (migration.checksum, _FORMER_CHECKSUMS.get(migration.name))
        if applied.get(migration.name, migration.checksum) not in checksums:
            raise UsageError(
                f"the database was made with another {migration.name} than this version of cgworker has: "
                "use the version that made it, or a new database"
            )
    return tuple(m for m in known if not {m.name, m.headers.get("replaces")} & applied.keys())
