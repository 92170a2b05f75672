"""Parse host names and client addresses of requests and settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*)(:\d*)?")
_ONE_CLIENT_BITS = 64  # of an IPv6 address: the rest of the address belongs to one client


# ---------------------------------------------------------------- names of hosts


def host_name(host: str) -> str:
    """Return the name in a `Host` header: in lower case, without port, brackets and final dot."""
    found = _HOST.fullmatch(host)
    name = found["name"] if found else host  # an IPv6 address without brackets has no port
    return name.strip("[]").removesuffix(".").lower()


def is_loopback(name: str) -> bool:
    """Whether a name or address always refers to the machine itself."""
    address = _address_of(name)
    return name == "localhost" if address is None else address.is_loopback


def read_host_names(text: str) -> tuple[str, ...]:
    """Parse comma-separated host names; raise ValueError for any other text."""
    names = tuple(host_name(part.strip()) for part in text.split(","))
    if any(not name or re.search(r"[/\s*]", name) for name in names):
        raise ValueError(text)
    return names


# ---------------------------------------------------------------- where a request comes from


def read_networks(text: str) -> tuple[Network, ...]:
    """Parse comma-separated addresses and networks; raise ValueError for any other text."""
    return tuple(ip_network(part.strip()) for part in text.split(","))


def source_of(request: Request, trusted: Sequence[Network]) -> str:
    """Return where a request comes from: its peer, or the client that trusted proxies forward it for.

    Each proxy appends its peer's address to `X-Forwarded-For`. The right-most address that is not a trusted
    proxy's is the client; whatever stands before it is unverified.

    Args:
        request: the request.
        trusted: the networks of the proxies to trust.

    Returns:
        An IPv4 address, or the 64-bit network of an IPv6 address; empty for a peer without an address.
    """
    source = _address_of(request.client.host) if request.client else None
    for hop in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
        if source is None or not any(source in network for network in trusted):
            break
        client = _address_of(host_name(hop.strip()))
        if client is None:
            break
        source = client
    if isinstance(source, IPv6Address):
        return str(IPv6Network((int(source), _ONE_CLIENT_BITS), strict=False))
    return "" if source is None else str(source)


def _address_of(text: str) -> Address | None:
    """Parse an address; return an IPv4-mapped IPv6 address as IPv4, and None for any other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
