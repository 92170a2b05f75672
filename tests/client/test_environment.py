"""Private authorities, proxies, and nothing in a request that would begin another line."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from cgworker import AdmissionClient, AgentRef, KernelClient
from cgworker.client.environment import proxy_for
from cgworker.errors import KernelUnreachable, UsageError

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class _Answers(BaseHTTPRequestHandler):
    """A kernel that is ready, or a proxy that answers in the place of one."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"null")

    def do_CONNECT(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_error(403, "not there")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"asked": asked}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@pytest.fixture
def secured(authority: trustme.CA) -> Iterator[str]:
    """A server whose certificate only the private authority vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(context) as (url, _):
        yield url


# ---------------------------------------------------------------- authorities


@pytest.mark.parametrize("way", ["argument", "SSL_CERT_FILE", "SSL_CERT_DIR", "admission"])
async def test_a_private_authority_is_trusted_where_it_is_named(
    way: str, secured: str, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an argument, or in the variables that httpx reads."""
    if way == "admission":
        async with AdmissionClient(secured, ca_file=ca_file) as admission:
            assert (await admission._send("GET", "/readyz")).body is None  # noqa: SLF001
        return
    if way == "SSL_CERT_DIR":
        (ca_file.parent / f"{_hash_of(ca_file)}.0").symlink_to(ca_file)
    if way != "argument":
        monkeypatch.setenv(way, str(ca_file.parent if way == "SSL_CERT_DIR" else ca_file))
    async with KernelClient(secured, ca_file=ca_file if way == "argument" else None) as kernel:
        assert (await kernel.send("GET", "/readyz")).body is None
        async with kernel.with_own_connections() as same:
            assert (await same.send("GET", "/readyz")).body is None


def _hash_of(ca_file: Path) -> str:
    """The name under which OpenSSL looks for it in a folder."""
    import subprocess

    command = ["openssl", "x509", "-hash", "-noout", "-in", str(ca_file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_an_untrusted_certificate_is_told_as_such_with_what_to_set(secured: str) -> None:
    """Not as an operation that the system does not permit."""
    async with KernelClient(secured) as kernel:
        with pytest.raises(
            KernelUnreachable, match=r"TLS: the certificate of .* is not trusted.*SSL_CERT_FILE"
        ):
            await kernel.readyz()


async def test_a_certificate_for_another_name_is_told_as_such(authority: trustme.CA, ca_file: Path) -> None:
    """Another authority would not help."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kernel.example").configure_cert(context)
    with serving(context) as (url, _):
        async with KernelClient(url, ca_file=ca_file) as kernel:
            with pytest.raises(KernelUnreachable, match="the name in the address must be one of") as told:
                await kernel.readyz()
    assert "SSL_CERT_FILE" not in str(told.value)


async def test_a_server_without_tls_is_told_as_such() -> None:
    """With the address to try."""
    with serving() as (url, _):
        async with KernelClient(url.replace("http", "https")) as kernel:
            with pytest.raises(KernelUnreachable, match=r"TLS: .*is it http:// there"):
                await kernel.readyz()


@pytest.mark.parametrize("is_variable", [False, True])
async def test_authorities_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_variable: bool
) -> None:
    """The file, and the variable it came from."""
    missing = tmp_path / "missing.pem"
    if is_variable:
        monkeypatch.setenv("SSL_CERT_FILE", str(missing))
    async with KernelClient("https://127.0.0.1:1", ca_file=None if is_variable else missing) as kernel:
        with pytest.raises(
            UsageError, match=r"SSL_CERT_FILE=.*missing\.pem" if is_variable else r"missing\.pem"
        ):
            await kernel.readyz()


# ---------------------------------------------------------------- proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_plain_kernel_is_reached_through_the_proxy(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is asked for the whole address."""
    with serving() as (proxy, asked):
        monkeypatch.setenv(variable, proxy)
        async with KernelClient("http://kernel.example:8000") as kernel:
            await kernel.send("GET", "/readyz")
    assert asked == ["GET http://kernel.example:8000/readyz"]


async def test_an_encrypted_kernel_is_reached_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses is named as the one that did."""
    with serving() as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy.removeprefix("http://"))
        async with KernelClient("https://kernel.example") as kernel:
            with pytest.raises(KernelUnreachable, match=r"the proxy on the way to .* says: 403"):
                await kernel.readyz()
    assert asked == ["CONNECT kernel.example:443"]


async def test_what_no_proxy_names_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback too has to be named, as for httpx."""
    with serving() as (proxy, through_proxy), serving() as (url, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        for no_proxy in ("", "127.0.0.1"):
            monkeypatch.setenv("NO_PROXY", no_proxy)
            async with KernelClient(url) as kernel:
                await kernel.send("GET", "/readyz")
    assert (through_proxy, asked) == ([f"GET {url}/readyz"], ["GET /readyz"])


@pytest.mark.parametrize(
    "no_proxy",
    [
        "",
        "*",
        "example.com",
        ".example.com",
        "kernel.example.com, other",
        "kernel.example.com:8000",
        "kernel.example.com:9000",
        "http://kernel.example.com",
        "https://kernel.example.com",
        "localhost",
        "127.0.0.1,::1",
        "notexample.com",
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "http://kernel.example.com:8000",
        "http://example.com",
        "https://kernel.example.com",
        "http://notexample.com",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
def test_the_proxy_is_the_one_that_httpx_would_take(
    url: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever NO_PROXY says."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    client = httpx.AsyncClient()
    goes_directly = client._transport_for_url(httpx.URL(url)) is client._transport  # noqa: SLF001
    assert (proxy_for(httpx.URL(url)) is None) == goes_directly


async def test_a_proxy_of_no_known_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence."""
    monkeypatch.setenv("HTTP_PROXY", "carrier-pigeon://proxy.example")
    async with KernelClient("http://kernel.example") as kernel:
        with pytest.raises(UsageError, match="a proxy that cannot be used"):
            await kernel.readyz()


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize("character", ["\r\n", "\n", "\r", "\0", "\x7f", "ü", "\u2028"], ids=ascii)
async def test_no_header_carries_what_would_end_it(character: str) -> None:
    """Refused before anything is sent, and secrets are not shown."""
    bad = f"a{character}X-Evil: 1"
    fine = AgentRef(project_id="p", agent_id="a")
    with serving() as (url, asked):
        cases: list[tuple[str, KernelClient, dict[str, str]]] = [
            ("the agent's id", KernelClient(url, agent=AgentRef(project_id="p", agent_id=bad)), {}),
            ("the project's id", KernelClient(url, agent=AgentRef(project_id=bad, agent_id="a")), {}),
            ("the token", KernelClient(url, agent=fine, token=bad), {}),
            ("the key", KernelClient(url, agent=fine, token="t"), {"Idempotency-Key": bad}),
            ("its value", KernelClient(url), {"prefer": bad}),
            ("its value", KernelClient(url), {bad: "x"}),
        ]
        for what, kernel, headers in cases:
            async with kernel:
                with pytest.raises(UsageError, match=what) as refused:
                    await kernel.send("GET", "/readyz", headers=headers)
                if what == "the token":
                    assert bad not in str(refused.value)
    assert asked == []


@pytest.mark.parametrize(
    "address", ["http://h/a b", "http://h\r\nX: y", "http://h/\0", "http://h?x=", "http://h/#"], ids=ascii
)
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    """Paths are put behind it."""
    with pytest.raises(UsageError, match="not an address"):
        KernelClient(address)


async def test_ids_in_paths_are_encoded() -> None:
    """Whatever is in them, they stay one segment."""
    with serving() as (url, asked):
        async with KernelClient(url) as kernel:
            await kernel.send("GET", "/readyz", query={"a": "b\r\nc"})
            with pytest.raises(UsageError):
                await kernel.send("GET", "/x\r\nX-Evil: 1")
    assert asked == ["GET /readyz?a=b%0D%0Ac"]
