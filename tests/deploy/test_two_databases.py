"""examples/deploy/nginx and haproxy: a thousand projects on two PostgreSQL servers, and one of them moves."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from attrs import field, frozen

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.server import KernelServer, bind, serve
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.migrate import migrate
from tests.databases import a_database
from tests.pages import ROOT, blocks
from tests.warm import warm_folder

EXAMPLES = ROOT / "examples" / "deploy"
PAGE = ROOT / "docs" / "how-to" / "many-databases.md"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
MOVED = "p-0002"
COUNT = 1000
_MAX_UNANSWERED = 5

# Half of the projects on each, with a requester and a worker each, whose tokens are known.
FILL = """
with project as (
    select 'p-' || lpad(n::text, 4, '0') as id from generate_series($1::int, $2::int, 2) n
), projects as (
    insert into cg_projects (project_id) select id from project
), agent as (
    select id, name from project, unnest(array['requester', 'worker']) name
), agents as (
    insert into cg_agents (project_id, agent_id, role, enabled, accepts_work, capacity, capabilities, grants,
        public_metadata)
    select id, name, 'tester', true, true, 4, '{turn.conversation.v1}', '{}', '{}' from agent
)
insert into cg_credentials (credential_id, project_id, agent_id, secret_hash, status)
select id || '_' || name, id, name, sha256('secret'), 'active' from agent
"""


def agent_of(project_id: str, name: str) -> tuple[AgentRef, str]:
    return AgentRef(project_id=project_id, agent_id=name), f"cgac_{project_id}_{name}.secret"


# ---------------------------------------------------------------- the proxies


@frozen
class Proxy:
    """A proxy with the configuration of its example, adapted to this machine's ports and folders."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Nginx(Proxy):
    """The map is changed by its file and a reload."""

    name = "nginx"
    program = shutil.which("nginx", path=PATH)

    @classmethod
    def command(cls, folder: Path) -> list[str]:
        assert cls.program is not None
        settings = f"daemon off; pid nginx.pid; error_log stderr; {'user root;' if os.getuid() == 0 else ''}"
        return [
            cls.program,
            "-e",
            "stderr",
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
            "-g",
            settings,
        ]

    @classmethod
    def prepare(cls, folder: Path, text: str, projects: list[str]) -> None:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = " ".join(f"{each}_temp_path {each};" for each in kinds)
        (folder / "nginx.conf").write_text(text.replace("http {\n", f"http {{\n{places}\n", 1))
        (folder / "projects.map").write_text("".join(f'"{project}" kernels_b;\n' for project in projects))

    def switch(self, project_id: str) -> None:
        with (self.folder / "projects.map").open("a") as file:
            file.write(f'"{project_id}" kernels_b;\n')
        self.process.send_signal(signal.SIGHUP)


class HAProxy(Proxy):
    """The map is changed by its socket."""

    name = "haproxy"
    program = shutil.which("haproxy", path=PATH)

    @classmethod
    def command(cls, folder: Path) -> list[str]:
        assert cls.program is not None
        return [cls.program, "-f", str(folder / "haproxy.cfg"), "-q", "-db"]

    @classmethod
    def prepare(cls, folder: Path, text: str, projects: list[str]) -> None:
        (folder / "haproxy.cfg").write_text(text)
        (folder / "projects.map").write_text("".join(f"{project} kernels_b\n" for project in projects))

    def switch(self, project_id: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "admin.sock"))
            connection.sendall(f"add map {self.folder}/projects.map {project_id} kernels_b\n".encode())
            assert connection.recv(4096).strip() == b""


@contextmanager
def running(
    kind: type[Nginx | HAProxy], ports: tuple[int, int], on_b: list[str]
) -> Iterator[Nginx | HAProxy]:
    """A proxy before the kernels at two ports, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="cg-proxy-") as place, socket.socket() as chosen:
        folder = Path(place)
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
        (source,) = [each for each in (EXAMPLES / kind.name).iterdir() if each.suffix in (".conf", ".cfg")]
        text = source.read_text()
        for told, here in {
            r"127\.0\.0\.1:8000": f"127.0.0.1:{ports[0]}",
            r"127\.0\.0\.1:8100": f"127.0.0.1:{ports[1]}",
            r"listen 8080": f"listen 127.0.0.1:{port}",
            r"bind :8080": f"bind 127.0.0.1:{port}",
            r"/etc/nginx/cgworker/projects\.map": str(folder / "projects.map"),
            r"/etc/haproxy/projects\.map": str(folder / "projects.map"),
            r"/run/haproxy/admin\.sock": str(folder / "admin.sock"),
            r"maxconn \d+": "maxconn 200",
            r"worker_connections \d+": "worker_connections 400",
        }.items():
            text = re.sub(told, here, text)
        kind.prepare(folder, text, on_b)
        chosen.close()
        process = subprocess.Popen(kind.command(folder), cwd=folder)
        try:
            yield kind(folder, port, process)
        finally:
            process.terminate()
            process.wait(30)


# ---------------------------------------------------------------- the installations


@pytest.fixture(scope="module")
def servers(postgres: str) -> Iterator[tuple[str, str]]:
    """The addresses of databases of two PostgreSQL servers, with half of the projects each."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cg-"))
        other = stack.enter_context(EmbeddedPostgres(folder, durable=False)).dsn
        yield postgres, other


@pytest.fixture
def installations(servers: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """A new database of each server, with its half of the projects: the even ones on a, the odd ones on b."""
    with ExitStack() as stack:
        databases = tuple(stack.enter_context(a_database(server)) for server in servers)
        for first, dsn in zip((2, 1), databases, strict=True):
            asyncio.run(_fill(dsn, first))
        yield databases[0], databases[1]


async def _fill(dsn: str, first: int) -> None:
    await migrate(lambda: asyncpg.connect(dsn))
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL, first, COUNT)
    await connection.close()


@asynccontextmanager
async def a_kernel(dsn: str) -> AsyncIterator[int]:
    """A kernel on a database; yields its port."""
    listener = bind("127.0.0.1", 0)
    ready: asyncio.Future[KernelServer] = asyncio.get_running_loop().create_future()
    async with Database.open(dsn) as database:
        serving = asyncio.create_task(serve(KernelConfig(), database, listener, ready=ready.set_result))
        server = await ready
        yield listener.getsockname()[1]
        server.stop()
        await serving


def dispatch_of(project_id: str, key: str) -> dict[str, Any]:
    requester, worker = agent_of(project_id, "requester")[0], agent_of(project_id, "worker")[0]
    return {
        "requested_by": {"project_id": project_id, "agent_id": requester.agent_id},
        "target_agent": {"project_id": project_id, "agent_id": worker.agent_id},
        "input": key,
        "turn_kind": "turn.conversation.v1",
        "dispatch_key": key,
        "authority": {"mode": "root_request", "request_id": key},
    }


@frozen
class Requesters:
    """What requesters of all projects do at the one address.

    A 503 is repeated, as its Retry-After says. So is a request without an answer: a proxy that reads its map
    anew may close a connection on which one has just been sent.
    """

    client: httpx.AsyncClient
    refused: list[str] = field(factory=list)

    async def dispatch(self, project_id: str, key: str) -> str:
        _, token = agent_of(project_id, "requester")
        headers = {
            "X-CG-Project-Id": project_id,
            "X-CG-Agent-Id": "requester",
            "Authorization": f"Bearer {token}",
        }
        unanswered = 0
        while True:
            try:
                answer = await self.client.post(
                    f"/v3r1/projects/{project_id}/turns:dispatch",
                    json=dispatch_of(project_id, key),
                    headers=headers,
                )
            except httpx.TransportError:
                unanswered += 1
                if unanswered == _MAX_UNANSWERED:
                    raise
                continue
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                return str(answer.json()["turn_id"])
            self.refused.append(project_id)
            await asyncio.sleep(float(answer.headers["retry-after"]))


async def until_ready(proxy: Proxy) -> None:
    deadline = time.monotonic() + 30
    async with httpx.AsyncClient() as client:
        while time.monotonic() < deadline and proxy.process.poll() is None:
            try:
                if (await client.get(f"{proxy.base_url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)
    raise AssertionError("the proxy does not answer")


def commands() -> list[str]:
    """The lines of the page that move a project: export, import, forget."""
    block = next(each for each in blocks(PAGE) if "cg admin export" in each.code)
    return [line for line in block.code.splitlines() if line.startswith("cg ")]


async def run(line: str, folder: Path, dsns: tuple[str, str]) -> None:
    """Run a line of the page, for the project and the databases here."""
    line = line.replace("acme", MOVED)
    for name, dsn in zip("ab", dsns, strict=True):
        line = line.replace(f"postgresql://{name}.example.org/cgworker", f"'{dsn}'")
    process = await asyncio.create_subprocess_shell(
        line, cwd=folder, env={**os.environ, "PATH": f"{warm_folder()}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def some_of(projects: list[str], remainder: int) -> list[str]:
    """Those of an installation, in order: a has the even ones."""
    return sorted(each for each in projects if int(each.removeprefix("p-")) % 2 == remainder)


KINDS = [
    pytest.param(
        kind,
        id=kind.name,
        marks=pytest.mark.skipif(
            kind.program is None,
            reason=f"{kind.name} is not installed, so nobody tests its example: apt-get install {kind.name}",
        ),
    )
    for kind in (Nginx, HAProxy)
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_project_moves_among_a_thousand(
    kind: type[Nginx | HAProxy], installations: tuple[str, str], tmp_path: Path
) -> None:
    """While its worker holds a turn, and turns are dispatched to it and to others: all are done, once."""
    asyncio.run(_move(kind, installations, tmp_path))


async def _move(kind: type[Nginx | HAProxy], installations: tuple[str, str], tmp_path: Path) -> None:
    everybody = [f"p-{n:04}" for n in range(1, COUNT + 1)]
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(a_kernel(dsn)) for dsn in installations]
        proxy = stack.enter_context(running(kind, (ports[0], ports[1]), everybody[::2]))
        await until_ready(proxy)
        limits = httpx.Limits(max_connections=32)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=proxy.base_url, limits=limits, timeout=60)
        )
        requesters = Requesters(client)
        some = [*everybody[:4], *everybody[4::15]]
        await asyncio.gather(*(requesters.dispatch(project_id, "first") for project_id in some))
        assert [await _value(dsn, WITH_TURNS) for dsn in installations] == [
            some_of(some, 0),
            some_of(some, 1),
        ]
        assert (
            (await client.get("/metrics")).status_code == (await client.get("/admin/v1/x")).status_code == 404
        )
        assert (await client.get("/openapi.json")).status_code == 200

        ref, token = agent_of(MOVED, "worker")
        kernel = await stack.enter_async_context(KernelClient(proxy.base_url, agent=ref, token=token))
        worker = Worker(kernel, options=WorkerOptions(concurrency=2))
        holds, may_end = asyncio.Event(), asyncio.Event()
        done: list[str] = []

        @worker.turn()
        async def work(turn: Turn) -> str:
            if turn.input == "first":
                holds.set()
                await may_end.wait()
            done.append(turn.ref.turn_id)
            return turn.ref.turn_id

        working = asyncio.create_task(worker.run())
        await asyncio.wait_for(holds.wait(), 30)
        dispatched: dict[str, list[str]] = {MOVED: [], "p-0004": [], "p-0001": []}
        is_over = asyncio.Event()

        async def dispatch_on(project_id: str, name: int) -> None:
            while not is_over.is_set():
                key = f"{name}-{len(dispatched[project_id])}"
                dispatched[project_id].append(await requesters.dispatch(project_id, key))
                await asyncio.sleep(0.05)  # twenty a second are enough

        dispatching = [
            asyncio.create_task(dispatch_on(project, n)) for project in dispatched for n in range(2)
        ]
        export, take, forget = commands()
        await run(export, tmp_path, installations)
        await run(take, tmp_path, installations)
        proxy.switch(MOVED)
        await _until(lambda: MOVED in requesters.refused)
        before = len(dispatched[MOVED])
        await _until(lambda: len(dispatched[MOVED]) > before)
        await run(forget, tmp_path, installations)
        may_end.set()
        is_over.set()
        await asyncio.gather(*dispatching)
        await _until(lambda: len(done) > len(dispatched[MOVED]))
        worker.drain()
        await working
        assert set(requesters.refused) == {MOVED}
        assert sorted(done) == sorted(["T-1", *dispatched[MOVED]])
        await _check_moved(installations, len(done))


SUCCEEDED = """
select count(*) from cg_turns where project_id = $1 and outcome = 'succeeded' and attempt = 1
"""
WITH_TURNS = "select array_agg(project_id order by project_id) from cg_turns where $1 = $1"
CLAIMED = "select count(*) from cg_ledger where project_id = $1 and event_type = 'turn.claimed'"


async def _check_moved(installations: tuple[str, str], turn_count: int) -> None:
    """All turns are closed on b, each after one claim, and a has nothing."""
    here, there = installations
    assert await _value(here, "select count(*) from cg_turns where project_id = $1") == 0
    assert await _value(there, SUCCEEDED) == await _value(there, CLAIMED) == turn_count


async def _value(dsn: str, statement: str, value: str = MOVED) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement, value)
    finally:
        await connection.close()


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
