"""The file of an exported project: lines of JSON, and between them the rows of each table.

The first line is the header. Each table has a line with its name and columns, then a line for each row in the
text format of PostgreSQL's COPY, which keeps every value exactly, and then a line with a backslash and a dot.
The last line has the numbers of rows and the SHA-256 of all lines before it; a file without it was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import IO, Any

import orjson
from attrs import asdict, define, field, frozen

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres.migrate import known_migrations

_FORMAT = "cgworker project 1"
_END_OF_ROWS = b"\\.\n"
_LINES = 1000  # given on at once

TABLES: dict[str, str] = {
    "cg_credentials": "credential_id",
    "cg_invites": "invite_id",
    "cg_admissions": "agent_id",
    "cg_schedules": "schedule_id",
    "cg_idempotency_keys": "agent_id, route, key",
    "cg_spawns": "spawn_key",
    "cg_records": "turn_number, turn_seq",
    "cg_ledger": "event_id",
    "cg_ledger_heads": "project_id",
    "cg_turns": "turn_number",
    "cg_agents": "agent_id",
    "cg_projects": "project_id",
}
"""The tables with rows of projects, and the order of their rows. A project is forgotten in this order."""


@frozen
class Header:
    """The first line.

    Attributes:
        project_id: the project.
        is_closed: whether the project could not be changed any more when it was exported.
    """

    project_id: str
    is_closed: bool


@frozen
class Section:
    """The line before the rows of a table."""

    table: str
    columns: list[str]


@frozen
class End:
    """The last line: the number of rows by table, and the SHA-256 of all lines before."""

    rows: dict[str, int]
    sha256: str


def schema() -> str:
    """Return the name of this version's schema: that of its last migration."""
    return known_migrations()[-1].name


@define
class ProjectWriter:
    """Writes the file of a project.

    Args:
        file: where to write.
    """

    _file: IO[bytes]
    _digest: Any = field(factory=hashlib.sha256, init=False)
    _rows: dict[str, int] = field(factory=dict, init=False)

    def begin(self, header: Header) -> None:
        """Write the first line."""
        self._write(orjson.dumps({"format": _FORMAT, "schema": schema(), **asdict(header)}) + b"\n")

    def begin_rows(self, section: Section) -> None:
        """Begin a table."""
        self._rows[section.table] = 0
        self._write(orjson.dumps(asdict(section)) + b"\n")

    def write_rows(self, table: str, chunk: bytes) -> None:
        """Write rows of the table that was begun, in any pieces."""
        self._rows[table] += chunk.count(b"\n")
        self._write(chunk)

    def end_rows(self) -> None:
        """End the table."""
        self._write(_END_OF_ROWS)

    def end(self) -> End:
        """Write the last line, and return it."""
        end = End(self._rows, self._digest.hexdigest())
        self._file.write(orjson.dumps(asdict(end)) + b"\n")
        return end

    def _write(self, lines: bytes) -> None:
        self._digest.update(lines)
        self._file.write(lines)


@define
class ProjectReader:
    """Reads the file of a project, and checks it on the way.

    Every method raises UsageError for a file that is cut, changed, or of another kind; it says what to do.

    Args:
        file: where to read.
    """

    _file: IO[bytes]
    _digest: Any = field(factory=hashlib.sha256, init=False)
    _rows: dict[str, int] = field(factory=dict, init=False)

    def begin(self) -> Header:
        """Read the first line."""
        try:
            found = orjson.loads(self._line())
            if found["format"] != _FORMAT:
                raise ValueError(found["format"])
            header = Header(found["project_id"], found["is_closed"])
        except (ValueError, KeyError, TypeError):
            raise UsageError("this is no file of `cg admin export` that this version can read") from None
        if found["schema"] != schema():
            raise UsageError(
                f"the file has the schema {found['schema']}, and this version of cgworker has {schema()}: "
                "export and import the project with the same version"
            )
        return header

    def sections(self) -> Iterator[Section | End]:
        """Yield what follows the rows that have been read: tables, and at last the end, which is checked."""
        while True:
            digest = self._digest.hexdigest()
            try:
                found = orjson.loads(self._line())
                if "table" not in found:
                    yield self._checked(End(**found), digest)
                    return
                section = Section(**found)
            except (ValueError, TypeError):
                raise _changed() from None
            if section.table not in TABLES or "project_id" not in section.columns:
                raise _changed()
            yield section

    def rows(self, section: Section, project_id: str) -> Iterator[bytes]:
        """Yield the rows of a table, in pieces of whole lines; each must be of the project."""
        table, place = section.table, section.columns.index("project_id")
        self._rows[table] = 0
        written = project_id.replace("\\", "\\\\").encode()  # as COPY writes it
        lines: list[bytes] = []
        for line in self._file:
            if line == _END_OF_ROWS:
                yield self._counted(table, lines)
                self._digest.update(line)
                return
            if not line.endswith(b"\n"):
                raise _cut()
            if line.split(b"\t", place + 1)[place : place + 1] != [written]:
                raise _changed()
            lines.append(line)
            if len(lines) == _LINES:
                yield self._counted(table, lines)
                lines = []
        raise _cut()

    def _counted(self, table: str, lines: list[bytes]) -> bytes:
        self._rows[table] += len(lines)
        chunk = b"".join(lines)
        self._digest.update(chunk)
        return chunk

    def _checked(self, end: End, digest: str) -> End:
        if end != End(self._rows, digest) or self._file.read(1):
            raise _changed()
        return end

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise _cut()
        self._digest.update(line)
        return line


def _cut() -> UsageError:
    return UsageError("the file was cut: copy it again, or export the project again")


def _changed() -> UsageError:
    return UsageError(
        "the file was changed after it was exported: copy it again, or export the project again"
    )
