"""Patroni with etcd, and HAProxy before the servers: who is the primary is decided without an operator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from attrs import define

from tests.failover.servers import DATABASE, PROGRAMS, USER, Server
from tests.soak.processes import Alive, descendants, signal_all
from tests.soak.stage import free_ports

_WAIT_SECONDS = 90.0

_HAPROXY = """
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout server 30m
    timeout connect 2s
    timeout check 2s
listen cgworker
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 500ms fall 1 rise 1 on-marked-down shutdown-sessions
    server one 127.0.0.1:{one.port} check port {one.api_port}
    server two 127.0.0.1:{two.port} check port {two.api_port}
"""


@define(eq=False)
class Node(Server):
    """A server that Patroni starts, stops and promotes."""

    api_port: int = 0
    etcd_port: int = 0
    _patroni: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start Patroni, which starts the server when its time has come."""
        self.make_folder()
        config = self.folder / "patroni.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML too
        with (self.folder / "log").open("ab") as log:
            self._patroni = spawn(self, ["patroni", str(config)], log)

    async def says(self, what: str) -> None:
        """Wait until Patroni says that the server is something: `primary`, or `synchronous`."""
        deadline = time.monotonic() + _WAIT_SECONDS
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.api_port}", timeout=2) as client:
            while time.monotonic() < deadline:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"/{what}")).status_code == 200:
                        return
                await asyncio.sleep(0.1)
        raise TimeoutError(f"{self.name} does not become {what}; see {self.folder / 'log'}")

    async def is_promoted(self) -> float:
        """Wait until the server takes writes; returns when it was seen to."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, asyncpg.PostgresError):
                if not await self.ask("select pg_is_in_recovery()", database="postgres", seconds=5):
                    return time.monotonic()
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{self.name} is not promoted; see {self.folder / 'log'}")

    def processes(self) -> list[Alive]:
        """The server's processes, without Patroni's."""
        try:
            return descendants(int((self.data / "postmaster.pid").read_text().split()[0]))
        except (OSError, ValueError, IndexError):
            return []

    def kill_server(self) -> None:
        """End the server alone."""
        signal_all(self.processes(), signal.SIGKILL)

    def kill(self) -> None:
        """End Patroni and the server with SIGKILL at once, as if their machine had died."""
        patroni = [] if self._patroni is None else descendants(self._patroni.pid)
        signal_all([*patroni, *self.processes()], signal.SIGKILL)
        signal_all(self.processes(), signal.SIGKILL)  # one that Patroni had started just then
        if self._patroni is not None:
            self._patroni.wait()

    def _config(self) -> object:
        login = {"username": USER}
        settings = {"wal_keep_size": "1GB", "max_connections": 100, "log_min_messages": "warning"}
        return {
            "scope": "drill",
            "name": self.name,
            "restapi": dict.fromkeys(("listen", "connect_address"), f"127.0.0.1:{self.api_port}"),
            "etcd3": {"host": f"127.0.0.1:{self.etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 3,
                    "primary_start_timeout": 0,
                    "synchronous_mode": True,
                    "postgresql": {"use_slots": False, "parameters": settings},
                },
                "initdb": ["no-sync", {"auth": "trust"}, {"encoding": "UTF8"}],
                "pg_hba": ["host all all all trust", "host replication all all trust"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(self.folder / "pgpass"),
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "authentication": {"superuser": login, "replication": login},
                "parameters": {"unix_socket_directories": str(self.folder)},
            },
        }


@define
class Cluster:
    """Two nodes, the address of the primary by HAProxy, and which one that was last."""

    one: Node
    two: Node
    proxied_dsn: str
    primary: Node

    async def has_primary(self) -> float:
        """Wait until a node takes writes; returns when it was seen to."""
        asking = {asyncio.create_task(node.is_promoted()): node for node in (self.two, self.one)}
        try:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        first = done.pop()
        self.primary = asking[first]
        return first.result()


def spawn(server: Server, command: list[str], log: Any) -> subprocess.Popen[bytes]:
    """Run a program as the account of the servers, in the server's folder."""
    return subprocess.Popen(
        [*server.become, *command],
        cwd=server.folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )


@asynccontextmanager
async def a_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start etcd, two nodes of which `one` is the primary, and HAProxy; all are killed at the end."""
    etcd, peer, proxy, *ports = free_ports(7)
    one = Node("one", folder / "one", ports[0], api_port=ports[1], etcd_port=etcd)
    two = Node("two", folder / "two", ports[2], api_port=ports[3], etcd_port=etcd)
    helper = Server("etcd", folder / "etcd", etcd)
    started: list[subprocess.Popen[bytes]] = []
    try:
        helper.make_folder()
        urls = [f"http://127.0.0.1:{port}" for port in (etcd, peer)]
        with (helper.folder / "log").open("ab") as log:
            command = ["etcd", "--data-dir", str(helper.folder / "data"), "--name", "drill"]
            command += ["--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]]
            command += ["--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1]]
            command += ["--initial-cluster", f"drill={urls[1]}", "--unsafe-no-fsync"]
            started.append(spawn(helper, command, log))
            await one.start()
            await one.says("primary")
            await one.ask(f"create database {DATABASE}", database="postgres")
            await two.start()
            await two.says("synchronous")
            config = helper.folder / "haproxy.cfg"
            config.write_text(_HAPROXY.format(port=proxy, one=one, two=two))
            started.append(spawn(helper, ["haproxy", "-f", str(config)], log))
        proxied = Node("haproxy", helper.folder, proxy)
        for _ in range(10):  # HAProxy takes all servers for primaries until it has asked them
            await proxied.is_promoted()
            await asyncio.sleep(0.1)
        yield Cluster(one, two, proxied.dsn, one)
    finally:
        one.kill()
        two.kill()
        for process in started:
            process.kill()
            process.wait()
