"""What the commands give that move a project to another database."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class ExportedProject:
    """A project that was written to a file; `closed` says whether it can be written to no more."""

    project_id: str
    file: str
    closed: bool
    rows: dict[str, int]
    sha256: str


@frozen(kw_only=True)
class ImportedProject:
    """A project that was read from a file; `imported` is false if that had been done before."""

    project_id: str
    file: str
    imported: bool
    rows: dict[str, int]
    sha256: str


@frozen(kw_only=True)
class ReopenedProject:
    """A project that can be written to again."""

    project_id: str


@frozen(kw_only=True)
class ForgottenProject:
    """A project that was removed from this database, since it is in another one now."""

    project_id: str
    rows: dict[str, int]
