"""Names of hosts and addresses of clients, as requests and settings spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*)(:\d*)?")
_ONE_CLIENT_BITS = 64  # of an IPv6 address: a client has all addresses below them to itself


# ---------------------------------------------------------------- names of hosts


def host_name(host: str) -> str:
    """The name in a `Host` header: in lower case, without port, brackets and final dot."""
    found = _HOST.fullmatch(host)
    name = found["name"] if found else host  # an IPv6 address without brackets has no port
    return name.strip("[]").removesuffix(".").lower()


def is_loopback(name: str) -> bool:
    """Whether a name or address always means the machine itself."""
    address = _address_of(name)
    return name == "localhost" if address is None else address.is_loopback


def read_host_names(text: str) -> tuple[str, ...]:
    """Names of hosts, comma separated; raises ValueError."""
    names = tuple(host_name(part.strip()) for part in text.split(","))
    if any(not name or re.search(r"[/\s*]", name) for name in names):
        raise ValueError(text)
    return names


# ---------------------------------------------------------------- where a request comes from


def read_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, comma separated; raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(","))


def source_of(request: Request, trusted: Sequence[Network]) -> str:
    """Where a request comes from: its peer or, as trusted proxies tell it in `X-Forwarded-For`, their client.

    Each proxy adds the address that it was asked from to the end of the header. What stands before the
    right-most address that is no trusted proxy's was written by somebody who is not believed.

    Returns:
        An address, of IPv6 its network of 64 bits; empty for a peer without an address.
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
    """An IPv4 address that is written as an IPv6 one is the IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
