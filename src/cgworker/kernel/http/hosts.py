"""Check the `Host` of requests."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

from starlette.responses import Response
from starlette.types import Scope

from cgworker.kernel.addresses import host_name, is_loopback
from cgworker.kernel.http.messages import reply

_MAX_NAME_LENGTH = 253  # of a host in DNS


class AllowedHosts:
    """The host names that requests may be for: the given and loopback names.

    They prevent DNS rebinding: a web page whose own host name resolves to 127.0.0.1 could otherwise talk to a
    kernel on the reader's machine. A request without a `Host` is served: no browser sends one.

    Args:
        names: the host names to answer to besides loopback names.

    Attributes:
        allow: whether the value of a `Host` header is allowed.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        # Few hosts are in nearly all requests.
        self.allow: Callable[[bytes], bool] = lru_cache(maxsize=64)(self._allow)

    def _allow(self, host: bytes) -> bool:
        name = host_name(host.decode("latin-1"))
        return name in self._names or is_loopback(name)


def misdirected(scope: Scope) -> Response:
    """Return the refusal of a request for another host (421); it names the variable that lists the hosts."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    named = ", ".join(host[:_MAX_NAME_LENGTH] for host in hosts[:2])
    message = f"this server does not answer to the host {named!r}; list its own names in CG_ALLOWED_HOSTS"
    return reply({"error": "MisdirectedRequest", "message": message}, status=421)
