"""Several hosts in PG_DSN: the one that takes writes is found, whatever the others do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from cgworker.errors import KernelOverloaded, UsageError
from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll import notifier
from cgworker.kernel.long_poll.other_kernels import APPLICATION_NAME
from cgworker.kernel.store.postgres import hosts as hosts_module
from cgworker.kernel.store.postgres.connect import describe_server, open_database
from cgworker.kernel.store.postgres.host_connection import HostConnection
from cgworker.kernel.store.postgres.hosts import Hosts, split_hosts
from tests.kernel.project import Project, client_of

LISTENING = """
select pid from pg_stat_activity
where datname = current_database() and application_name = $1 and query not like '%pg_logical_emit_message%'
"""

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take the connection and whatever comes, as a machine behind a forwarder whose server died."""
    await reader.read()


async def be_a_standby(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let everybody in, and say what a server in recovery says."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    length = struct.unpack("!i", await reader.readexactly(4))[0]
    await reader.readexactly(length - 4)
    statuses = {"server_version": "15.0", "in_hot_standby": "on", "client_encoding": "UTF8"}
    told = [message(b"S", f"{name}\0{value}\0".encode()) for name, value in statuses.items()]
    body = struct.pack("!ii", 1, 1)
    writer.write(message(b"R", struct.pack("!i", 0)) + b"".join(told) + message(b"K", body))
    writer.write(message(b"Z", b"I"))
    await reader.read()


async def forward_to(
    dsn: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    is_silent: Callable[[], bool] = lambda: False,
) -> None:
    """Be another way to the database; what comes while it is silent goes nowhere."""
    from_server, to_database = await to_server(dsn)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not is_silent():
                target.write(data)

    ways = [asyncio.create_task(pump(reader, to_database)), asyncio.create_task(pump(from_server, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_database.close()
        with suppress(OSError):
            await to_database.wait_closed()


async def to_server(dsn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the server of an address."""
    address, query = urlsplit(dsn), parse_qs(urlsplit(dsn).query)
    if "host" in query:
        return await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.5432")
    return await asyncio.open_connection(address.hostname, address.port or 5432)


@asynccontextmanager
async def host_before(dsn: str, accept: Accept) -> AsyncIterator[str]:
    """The database's address with another host in front of its own."""
    accepting: set[asyncio.Task[None]] = set()

    async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        accepting.add(task)
        try:
            await accept(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(remember, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    address, query = urlsplit(dsn), parse_qs(urlsplit(dsn).query)
    own_host = query.get("host", [address.hostname])[0]
    try:
        yield (
            f"postgresql://{address.username}@{address.path}"
            f"?host={host},{own_host}&port={port},{address.port or 5432}&sslmode=disable"
        )
    finally:
        server.close()
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)


@asynccontextmanager
async def serving(config: KernelConfig) -> AsyncIterator[tuple[Kernel, httpx.AsyncClient]]:
    """A kernel with these settings, and its client."""
    async with (
        open_database(config) as opened,
        open_kernel(config, opened) as kernel,
        client_of(kernel) as client,
    ):
        yield kernel, client


@pytest.mark.parametrize("accept", [say_nothing, be_a_standby])
async def test_a_kernel_serves_past_a_first_host_that_is_no_primary(dsn: str, accept: Accept) -> None:
    """From the migration on, with its connections for requests and the one for notifications."""
    async with host_before(dsn, accept) as address:
        config = KernelConfig(pg_dsn=address, pool_size=3, claim_reaper_interval_seconds=0)
        with anyio.fail_after(60):
            async with serving(config) as (kernel, client):
                worker = await Project(kernel, client).agent("worker")
                turn_id = await worker.dispatch(worker)
                assert (await worker.claim())["turn_id"] == turn_id
                assert (await client.get("/readyz")).status_code == 200


async def test_the_next_connection_begins_with_the_host_that_accepted_last(dsn: str) -> None:
    met = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await say_nothing(reader, writer)

    async with host_before(dsn, count) as address:
        hosts = Hosts(address)
        for _ in range(3):
            await (await hosts.connect()).close()
    assert met == 1


@pytest.mark.parametrize("are_ended", [True, False])
async def test_a_running_kernel_finds_the_primary_when_its_host_goes_silent(
    dsn: str, are_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host in use stops answering; it ends the connections that it has, or they are half open.

    A statement that waits on one of those is not waited for as long as a slow one.
    """
    monkeypatch.setattr(notifier, "_RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(hosts_module, "_LOOK_EVERY_SECONDS", 1e6)
    monkeypatch.setattr(hosts_module, "_OVERDUE_SECONDS", 0.3)
    is_silent = False
    passing: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_silent:
            await say_nothing(reader, writer)
            return
        passing.add(writer)
        await forward_to(dsn, reader, writer, is_silent=lambda: is_silent)

    async with host_before(dsn, forward) as two:
        config = KernelConfig(pg_dsn=two, pool_size=2, claim_reaper_interval_seconds=0)
        async with serving(config) as (_, client):
            assert (await client.get("/readyz")).status_code == 200
            is_silent = True
            for one in passing if are_ended else ():
                one.transport.abort()
            with anyio.fail_after(25):  # a statement is given up after 32 s
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # nobody tells
                    await anyio.sleep(0.02)


async def test_of_hosts_without_a_primary_each_is_named(dsn: str) -> None:
    async with host_before(dsn, be_a_standby) as address:
        port = address.partition("port=")[2].partition(",")[0]
        one = f"postgresql://cg@127.0.0.1:{port}/cg?sslmode=disable&target_session_attrs=primary"
        with pytest.raises(KernelOverloaded, match="not the wanted kind of server"):
            await describe_server(KernelConfig(pg_dsn=one))
        any_kind = f"postgresql://cg@127.0.0.1:{port}/cg?sslmode=disable"
        with pytest.raises(KernelOverloaded, match="the server is a standby, which takes no writes"):
            await describe_server(KernelConfig(pg_dsn=any_kind))
        two = f"postgresql://cg@127.0.0.1:{port},127.0.0.1:1/cg?sslmode=disable"
        with pytest.raises(KernelOverloaded) as told:
            await describe_server(KernelConfig(pg_dsn=two))
    said = str(told.value)
    assert f"127.0.0.1:{port}: not the wanted kind of server, such as a standby" in said
    assert "127.0.0.1:1: " in said


async def test_an_invalid_address_of_several_hosts_is_the_users_fault() -> None:
    with pytest.raises(UsageError, match="PG_DSN is not a PostgreSQL address"):
        await describe_server(KernelConfig(pg_dsn="postgresql://cg@127.0.0.1:a,127.0.0.1:b/cg"))


@pytest.mark.parametrize(
    ("dsn", "each"),
    [
        ("postgresql://u:p@a:1,b:2/d?x=y", ["postgresql://u:p@a:1/d?x=y", "postgresql://u:p@b:2/d?x=y"]),
        ("postgresql://a,[::1]:2/d", ["postgresql://a/d", "postgresql://[::1]:2/d"]),
        ("postgresql:///d?host=a,b&port=7", ["postgresql:/d?host=a&port=7", "postgresql:/d?host=b&port=7"]),
        ("postgresql:///d?host=/s,b", ["postgresql:/d?host=%2Fs", "postgresql:/d?host=b"]),
        ("postgresql:///d?host=/s", ["postgresql:///d?host=/s"]),
        ("postgresql://a/d", ["postgresql://a/d"]),
    ],
)
def test_an_address_is_split_by_its_hosts(dsn: str, each: list[str]) -> None:
    assert split_hosts(dsn) == tuple(each)


async def test_a_look_leaves_all_as_it_is_while_the_other_host_is_a_standby(dsn: str) -> None:
    async with host_before(dsn, be_a_standby) as address:
        hosts = Hosts(address)
        connection = await hosts.connect()
        await hosts.look()
        assert await connection.fetchval("select 1") == 1
        connection.terminate()


async def test_nobody_waits_for_a_host_that_a_look_has_left(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that are being made would keep a whole pool for as long as a host may take."""
    monkeypatch.setattr(hosts_module, "_NEXT_HOST_SECONDS", 1e6)
    is_met = asyncio.Event()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_met.set()
        await say_nothing(reader, writer)

    async with host_before(dsn, meet) as address:
        hosts = Hosts(address)
        connecting = asyncio.create_task(hosts.connect(timeout=1e6))
        await is_met.wait()
        await hosts.look()
        with anyio.fail_after(30):
            (await connecting).terminate()


async def test_an_old_primary_is_left_for_the_one_that_was_promoted(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take writes; the timeline tells which is which, at a look and for new connections."""
    timelines: dict[str, int] = {}
    commit = HostConnection.try_to_commit

    async def try_to_commit(connection: HostConnection) -> None:
        await commit(connection)
        connection.timeline = timelines[connection.dsn]

    monkeypatch.setattr(HostConnection, "try_to_commit", try_to_commit)
    async with host_before(dsn, partial(forward_to, dsn)) as address:
        old, new = split_hosts(address)
        timelines |= {old: 7, new: 7}
        hosts = Hosts(address)
        connection = await hosts.connect()
        await hosts.look()
        assert not connection.is_closed()
        timelines[new] = 8
        await hosts.look()
        while not connection.is_closed():  # noqa: ASYNC110  # at the next turn of the loop
            await asyncio.sleep(0)
        connection = await hosts.connect()
        assert connection.dsn == new
        timelines[new] = 6
        with pytest.raises(ConnectionError, match=r"from before a failover.*timeline 7, not 8"):
            await hosts.connect()
        connection.terminate()


async def test_the_listening_connection_follows_a_promotion_at_an_address_of_its_own(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old primary still answers, so nothing but a look tells that it is no longer the one."""
    monkeypatch.setattr(hosts_module, "_LOOK_EVERY_SECONDS", 0.0)
    is_promoted = False
    commit = HostConnection.try_to_commit

    async def try_to_commit(connection: HostConnection) -> None:
        await commit(connection)
        connection.timeline = 8 if is_promoted and connection.dsn == new else 7

    monkeypatch.setattr(HostConnection, "try_to_commit", try_to_commit)
    async with host_before(dsn, partial(forward_to, dsn)) as address:
        _, new = split_hosts(address)
        config = KernelConfig(pg_dsn=dsn, pg_listen_dsn=address, pool_size=2, claim_reaper_interval_seconds=0)
        async with serving(config) as (kernel, _):

            async def listening() -> set[int]:
                return {row["pid"] for row in await kernel.database.fetch(LISTENING, APPLICATION_NAME)}

            with anyio.fail_after(60):
                while not (before := await listening()):  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.02)
                is_promoted = True
                while not (after := await listening()) or before & after:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.02)
