"""Which hosts a server answers to, where its redirects lead, and whose X-Forwarded-For it believes."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from attrs import evolve

from cgworker.kernel.addresses import read_networks
from cgworker.kernel.app import Kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.test_server import Served, a_server

LOOPBACK = ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "127.1.2.3", "[::1]", "[::1]:8000"]
OTHERS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "",
    "a, b",
]
ALLOWED = ["kernel.example.org", "KERNEL.example.org:443"]


def admission(kernel: Kernel) -> list[Operation]:
    """The routes of an admission service."""
    return admission_routes(kernel.config, project_id="p-hosts", bearer="b")


async def asked(served: Served, path: str = "/healthz", **headers: str) -> httpx.Response:
    """The answer to a request with these headers."""
    return await served.project.client.get(path, headers=headers)


async def statuses(served: Served, hosts: list[str]) -> set[int]:
    return {(await asked(served, host=host)).status_code for host in hosts}


async def test_a_server_on_loopback_answers_to_loopback_names_alone(
    config: KernelConfig, database: Database
) -> None:
    """A page of somebody else that reaches it by a name of its own gets nothing, whatever the route."""
    async with a_server(config, database, admission) as served:
        assert await statuses(served, LOOPBACK) == {200}
        assert await statuses(served, OTHERS + ALLOWED) == {421}
        for path in ("/openapi.json", "/v3r1/projects/p/turns/T-1", "/metrics", "/nowhere"):
            assert (await asked(served, path, host="evil.example")).status_code == 421
        redeem = "/admin/v1/agent-joins:redeem"
        refused = await served.project.client.post(redeem, json={}, headers={"host": "evil.example"})
    assert refused.status_code == 421
    assert "'evil.example'" in refused.json()["message"]
    assert "CG_ALLOWED_HOSTS" in refused.json()["message"]


async def test_listed_hosts_are_answered_to_as_well(config: KernelConfig, database: Database) -> None:
    """As a proxy in front names them."""
    listed = evolve(config, allowed_hosts=("kernel.example.org",))
    async with a_server(listed, database) as served:
        assert await statuses(served, LOOPBACK + ALLOWED) == {200}
        assert await statuses(served, OTHERS) == {421}


async def test_elsewhere_every_host_is_answered_to_unless_some_are_listed(
    config: KernelConfig, database: Database
) -> None:
    """A server for a network does not know its names; where they are listed, they count."""
    listed = evolve(config, allowed_hosts=("kernel.example.org",))
    async with a_server(config, database, host="0.0.0.0") as served:
        assert await statuses(served, LOOPBACK + ALLOWED + OTHERS) == {200}
    async with a_server(listed, database, host="0.0.0.0") as served:
        assert await statuses(served, LOOPBACK + ALLOWED) == {200}
        assert await statuses(served, OTHERS) == {421}


async def test_every_host_header_counts_and_a_request_without_one_is_no_browser(
    config: KernelConfig, database: Database
) -> None:
    """A second one cannot hide the first; HTTP/1.0 has none."""
    async with a_server(config, database) as served:
        port = served.project.client.base_url.port
        assert port is not None
        assert b"421" in await raw(
            port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        )
        assert b" 200 " in await raw(port, b"GET /healthz HTTP/1.0\r\n\r\n")


async def raw(port: int, request: bytes) -> bytes:
    """The first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/healthz/", "/healthz"),
        ("/healthz//", "/healthz"),
        (
            "/v3r1/projects/p%20%C3%A9/turns/T-1/?limit=1&x=%22",
            "/v3r1/projects/p%20%C3%A9/turns/T-1?limit=1&x=%22",
        ),
    ],
)
async def test_a_redirect_leads_to_a_path(
    config: KernelConfig, database: Database, path: str, location: str
) -> None:
    """Never to the host that the client named."""
    async with a_server(config, database, host="0.0.0.0") as served:
        answer = await asked(served, path, host="evil.example")
    assert (answer.status_code, answer.headers["location"]) == (307, location)


@pytest.mark.parametrize(
    "path", ["/", "/nowhere/", "//evil.example/", "//evil.example//healthz/", "/healthz/x/"]
)
async def test_what_has_no_route_without_its_slash_leads_nowhere(
    config: KernelConfig, database: Database, path: str
) -> None:
    """404, as any unknown path."""
    async with a_server(config, database) as served:
        port = served.project.client.base_url.port
        assert port is not None
        assert b" 404 " in await raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def tries(served: Served, forwarded: list[str]) -> list[int]:
    """What it is answered to a try of a join code for each `X-Forwarded-For`."""
    redeem, body = "/admin/v1/agent-joins:redeem", {"join_code": "cgjoin_x"}
    client, headers = served.project.client, [{"x-forwarded-for": value} for value in forwarded]
    return [(await client.post(redeem, json=body, headers=one)).status_code for one in headers]


async def test_the_limit_of_join_codes_cannot_be_walked_around(
    config: KernelConfig, database: Database
) -> None:
    """A header is not believed from loopback either, and all clients of an unlisted proxy are one source."""
    limited = evolve(config, redeems_per_minute=2)
    clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "x" * 9000]
    async with a_server(limited, database, admission) as served:
        assert await tries(served, clients) == [403, 403, 429, 429]


async def test_clients_of_a_listed_proxy_have_limits_of_their_own(
    config: KernelConfig, database: Database
) -> None:
    """By the address that the proxy added, not by those before it."""
    listed = evolve(config, redeems_per_minute=1, trusted_proxies=read_networks("127.0.0.0/8"))
    async with a_server(listed, database, admission) as served:
        assert await tries(served, ["203.0.113.1", "203.0.113.2"]) == [403, 403]
        assert await tries(served, ["1.1.1.1, 203.0.113.1", "2.2.2.2, 203.0.113.1"]) == [429, 429]
