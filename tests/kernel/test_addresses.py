"""Names of hosts, and where a request comes from (difference 37)."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from cgworker.kernel.addresses import host_name, is_loopback, read_networks, source_of


def source(peer: str | None, *forwarded: str, trusted: str = "10.0.0.0/8,127.0.0.1,fd00::/8") -> str:
    """Where a request from a peer with these `X-Forwarded-For` headers comes from."""
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    scope = {"type": "http", "headers": headers, "client": None if peer is None else (peer, 1234)}
    return source_of(Request(scope), read_networks(trusted) if trusted else ())


def test_nobody_is_believed_unless_listed() -> None:
    """By default a header changes nothing, not even from loopback."""
    assert source("127.0.0.1", "203.0.113.7", trusted="") == "127.0.0.1"
    assert source("192.0.2.1", "203.0.113.7") == "192.0.2.1"


def test_the_right_most_address_that_is_no_trusted_proxys_counts() -> None:
    """What a client wrote itself stands further left, also in a header of its own."""
    assert source("127.0.0.1", "203.0.113.7") == "203.0.113.7"
    assert source("127.0.0.1", "1.1.1.1, 203.0.113.7") == "203.0.113.7"
    assert source("127.0.0.1", "1.1.1.1, 203.0.113.7, 10.1.2.3,10.0.0.1") == "203.0.113.7"
    assert source("127.0.0.1", "1.1.1.1", "203.0.113.7") == "203.0.113.7"
    assert source("127.0.0.1", "10.9.9.9") == "10.9.9.9"  # a client in the proxies' own network


@pytest.mark.parametrize("client", ["203.0.113.7:50123", " 203.0.113.7 ", "::ffff:203.0.113.7"])
def test_an_address_is_read_however_a_proxy_writes_it(client: str) -> None:
    """With a port, with blanks, as an IPv6 one."""
    assert source("127.0.0.1", client) == "203.0.113.7"
    assert source("::ffff:127.0.0.1", client) == "203.0.113.7"


@pytest.mark.parametrize(
    "nonsense", ["", "unknown", "_hidden", "x" * 30_000, "203.0.113.7é", "fe80::1%" + "x" * 9000]
)
def test_nothing_but_an_address_is_ever_a_source(nonsense: str) -> None:
    """A key is as long as an address is; who told nothing readable is the source itself."""
    assert len(source("127.0.0.1", nonsense)) < 50
    assert source("127.0.0.1", f"203.0.113.7, {nonsense}") in ("127.0.0.1", "fe80::/64")


def test_an_ipv6_client_is_its_network() -> None:
    """It could take another of 2**64 addresses for each try."""
    assert source("2001:db8:1:2:3:4:5:6") == source("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert source("fd00::1", "[2001:db8:1:2::9]:443") == "2001:db8:1:2::/64"


def test_a_peer_without_an_address_is_one_source() -> None:
    """As behind a socket file."""
    assert source(None, "203.0.113.7") == ""
    assert source("", "203.0.113.7") == ""


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:8000", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("kernel.example.org:", "kernel.example.org"),
    ],
)
def test_a_host_is_known_by_its_name(host: str, name: str) -> None:
    """Ports, brackets and capitals do not matter."""
    assert host_name(host) == name


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_has_these_names(name: str) -> None:
    """And no others."""
    assert is_loopback(name)


@pytest.mark.parametrize(
    "name",
    ["", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "::", "10.0.0.1", "127.1", "a b"],
)
def test_other_names_are_not_loopback(name: str) -> None:
    """A name that only looks like one of them can be anybody's."""
    assert not is_loopback(name)
