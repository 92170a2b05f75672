"""Copy a project from one database to another, by a file (project_file.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import IO

import asyncpg
from attrs import frozen

from cgworker.errors import ConflictError, UsageError
from cgworker.kernel.store.callers import IS_CLOSED
from cgworker.kernel.store.ledger import number_events
from cgworker.kernel.store.moves import FIND_MOVE, PROJECT_EXISTS, WAKE_KERNELS, require_project
from cgworker.kernel.store.postgres.database import Connection, Database
from cgworker.kernel.store.project_file import TABLES, End, Header, ProjectReader, ProjectWriter, Section

_COPY_SECONDS = 86_400.0  # a table may be large

# All tables as they are at one moment.
ONE_SNAPSHOT = "set transaction isolation level repeatable read, read only"

# A role may have others.
EXACT_TEXT = (
    "set local datestyle = 'ISO, MDY'; set local extra_float_digits = 1; set local bytea_output = 'hex'"
)

# The columns of a table, but not an identity: each database numbers its events itself, in the order of the
# rows.
LIST_COLUMNS = """
select attname
from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped and attidentity = ''
order by attnum
"""

EXPORT_ROWS = {
    table: f"select * from {table} where project_id = $1 order by {order}"
    for table, order in TABLES.items()
    if table != "cg_ledger"
} | {
    # Its indexes hold events that have a number, or have none.
    "cg_ledger": """
select project_id, ledger_seq, event_type, subject_kind, subject_id, actor_kind, actor_id, cause_kind,
    cause_id, created_at, note, annotations, payload_box_id, agent_id, turn_number, parent_number
from (
    (select * from cg_ledger where project_id = $1 and ledger_seq is not null order by ledger_seq)
    union all
    (select * from cg_ledger where project_id = $1 and ledger_seq is null order by event_id)
) event
"""
}

NOTE_IMPORTED = """
insert into cg_moves (project_id, imported_digest, imported_at) values ($1, $2, cg_now())
on conflict (project_id) do update
set closed_at = null, forgotten_at = null, imported_digest = $2, imported_at = cg_now()
"""

# Another import of the project waits here.
LOCK_MOVE = """
insert into cg_moves (project_id) values ($1)
on conflict (project_id) do update set project_id = excluded.project_id
"""


async def export_project(database: Database, project_id: str, file: IO[bytes]) -> tuple[Header, End]:
    """Write everything of a project to a file, as it is at one moment. Kernels work on meanwhile.

    Args:
        database: the kernel's database.
        project_id: the project.
        file: an open file, which is written from its beginning.

    Returns:
        The first line of the file and the last.

    Raises:
        NotFoundError: there is no such project.
    """
    await require_project(database, project_id)
    if not await database.fetchval(IS_CLOSED, project_id):
        await number_events(database, project_id)

    async def export(connection: Connection) -> tuple[Header, End]:
        await connection.execute(ONE_SNAPSHOT)
        await connection.execute(EXACT_TEXT)
        file.seek(0)
        file.truncate()
        writer = ProjectWriter(file)
        header = Header(project_id, await connection.fetchval(IS_CLOSED, project_id))
        writer.begin(header)
        for table in TABLES:
            await _export_table(connection, project_id, table, writer)
        return header, writer.end()

    return await database.transact(export)


async def _export_table(connection: Connection, project_id: str, table: str, writer: ProjectWriter) -> None:
    columns = [row["attname"] for row in await connection.fetch(LIST_COLUMNS, table)]
    writer.begin_rows(Section(table, columns))

    async def write(chunk: bytes) -> None:
        writer.write_rows(table, chunk)

    await connection.copy_from_query(EXPORT_ROWS[table], project_id, output=write, timeout=_COPY_SECONDS)
    writer.end_rows()


@frozen
class Imported:
    """What an import did.

    Attributes:
        project_id: the project.
        end: the last line of its file.
        is_new: False if the same file had been imported before, so that nothing was changed.
    """

    project_id: str
    end: End
    is_new: bool


async def import_project(database: Database, file: IO[bytes], *, takes_open: bool = False) -> Imported:
    """Read a project from a file, all or nothing. Kernels serve it as soon as this returns.

    Args:
        database: the kernel's database.
        file: an open file, which is read from its beginning.
        takes_open: whether to take the file of a project that was open when it was exported, too.

    Raises:
        UsageError: the file is cut, changed, of another version, or of a project that was open.
        ConflictError: the project exists, or has moved on from here; or one of its credentials exists.
    """
    header, end = await asyncio.to_thread(_checked, file)
    if not header.is_closed and not takes_open:
        raise UsageError(
            f"project {header.project_id} was open when it was exported, so the file lacks what happened "
            "since: export it with --close, or give --copy to import it as it was"
        )

    async def read(connection: Connection) -> Imported:
        await connection.execute(EXACT_TEXT)
        await connection.execute(LOCK_MOVE, header.project_id)
        if await _is_here(connection, header.project_id, bytes.fromhex(end.sha256)):
            return Imported(header.project_id, end, is_new=False)
        await _import_rows(connection, file)
        await connection.execute(NOTE_IMPORTED, header.project_id, bytes.fromhex(end.sha256))
        await connection.execute(WAKE_KERNELS)
        return Imported(header.project_id, end, is_new=True)

    try:
        return await database.transact(read)
    except asyncpg.UniqueViolationError as taken:
        raise ConflictError(
            f"the database has something of project {header.project_id} already: {taken.detail}"
        ) from taken


def _checked(file: IO[bytes]) -> tuple[Header, End]:
    """Read the whole file without using it, so that nothing is begun with a file that cannot be used."""
    file.seek(0)
    reader = ProjectReader(file)
    header = reader.begin()
    for found in reader.sections():
        if isinstance(found, End):
            return header, found
        for _ in reader.rows(found, header.project_id):
            pass
    raise AssertionError("unreachable: the sections end with the end")


async def _is_here(connection: Connection, project_id: str, digest: bytes) -> bool:
    """Whether the file was imported before; raise ConflictError if there is another project of the name."""
    move = await connection.fetchrow(FIND_MOVE, project_id)
    was_imported = move is not None and move["imported_digest"] == digest
    if await connection.fetchval(PROJECT_EXISTS, project_id):
        if not was_imported:
            raise ConflictError(f"there is another project {project_id} in this database")
        return True
    if was_imported:
        raise ConflictError(
            f"project {project_id} was imported from this file before and has moved on since: "
            "import the file of its last export"
        )
    return False


async def _import_rows(connection: Connection, file: IO[bytes]) -> None:
    file.seek(0)
    reader = ProjectReader(file)
    header = reader.begin()
    for section in reader.sections():
        if isinstance(section, Section):
            await connection.copy_to_table(
                section.table,
                source=_rows(reader.rows(section, header.project_id)),
                columns=section.columns,
                timeout=_COPY_SECONDS,
            )


async def _rows(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
