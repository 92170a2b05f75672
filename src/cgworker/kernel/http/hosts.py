"""Check the `Host` of requests."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from starlette.responses import Response
from starlette.types import Scope

from cgworker.kernel.addresses import host_name, is_loopback
from cgworker.kernel.http.messages import reply

_MAX_NAME_LENGTH = 253  # of a host in DNS


class AllowedHosts:
    """Refuses requests for other hosts than the given and loopback names (421).

    It prevents DNS rebinding: a web page whose own host name resolves to 127.0.0.1 could otherwise talk to a
    kernel on the reader's machine. A request without a `Host` is served: no browser sends one.

    Args:
        names: the host names to answer to besides loopback names.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._is_allowed = lru_cache(maxsize=64)(self._read)  # few hosts are in nearly all requests

    def refusal(self, scope: Scope) -> Response | None:
        """Return the refusal of a request for another host; it names the variable that lists the hosts."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if all(map(self._is_allowed, hosts)):
            return None
        named = ", ".join(host.decode("latin-1")[:_MAX_NAME_LENGTH] for host in hosts[:2])
        message = f"this server does not answer to the host {named!r}; list its own names in CG_ALLOWED_HOSTS"
        return reply({"error": "MisdirectedRequest", "message": message}, status=421)

    def _read(self, host: bytes) -> bool:
        name = host_name(host.decode("latin-1"))
        return name in self._names or is_loopback(name)
