"""`cg admin export|import|reopen|forget`: a project moves to another database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cg
from tests.databases import a_database


@pytest.fixture(scope="module")
def there(postgres: str) -> Iterator[str]:
    """A database without a schema."""
    with a_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def project(cg: Cg, dsn: str) -> str:
    """A project that has been prepared."""
    project_id = f"p-{secrets.token_hex(4)}"
    assert cg("setup", "project", "seed", "--project-id", project_id, "--pg-dsn", dsn).result["seeded"]
    return project_id


def test_a_project_moves(cg: Cg, project: str, dsn: str, there: str) -> None:
    """Written to a private file, read once from it, and then forgotten where it was."""
    file = cg.home / "moving.project"
    exported = cg("admin", "export", project, str(file), "--close", "--pg-dsn", dsn).result
    assert exported["closed"]
    assert exported["rows"]["cg_agents"] == exported["rows"]["cg_credentials"] == 1
    assert file.stat().st_mode & 0o777 == 0o600
    imported = [cg("admin", "import", str(file), "--pg-dsn", there).result for _ in range(2)]
    assert [each["imported"] for each in imported] == [True, False]
    assert imported[0]["sha256"] == exported["sha256"]
    forgotten = cg("admin", "forget", project, "--pg-dsn", dsn).result
    assert forgotten["rows"] == exported["rows"]
    flags = ("--project-id", project, "--pg-dsn")
    assert cg("setup", "project", "status", *flags, there).result["admin_service_credential_ready"]
    assert "has moved" in cg("setup", "project", "seed", *flags, dsn).error["message"]


def test_a_move_can_be_called_off(cg: Cg, project: str, dsn: str) -> None:
    """The project is open again, and is not forgotten by mistake."""
    cg("admin", "export", project, str(cg.home / "file"), "--close", "--pg-dsn", dsn)
    assert cg("admin", "reopen", project, "--pg-dsn", dsn).result == {"project_id": project}
    refused = cg("admin", "forget", project, "--pg-dsn", dsn)
    assert (refused.exit_code, refused.error["status"]) == (1, 409)
    assert "--close" in refused.error["message"]


def test_what_cannot_be_moved_is_told(cg: Cg, dsn: str, there: str) -> None:
    """And a file that was there is left as it was."""
    file = cg.home / "file"
    Path(file).write_text("mine\n")
    missing = cg("admin", "export", "nobody", str(file), "--pg-dsn", dsn)
    assert (missing.error["code"], missing.error["status"]) == ("project_not_found", 404)
    assert file.read_text() == "mine\n"
    assert "no file of" in cg("admin", "import", str(file), "--pg-dsn", there).error["message"]
    assert cg("admin", "import", str(cg.home / "gone"), "--pg-dsn", there).error["status"] == 404
