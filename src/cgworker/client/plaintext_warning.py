"""Warn when credentials travel unencrypted."""

from __future__ import annotations

import ipaddress
import logging
from functools import cache
from urllib.parse import urlsplit

logger: logging.Logger = logging.getLogger("cgworker")


@cache
def warn_of_plain_http(base_url: str) -> None:
    """Log a warning, once per address, if credentials go to another machine unencrypted.

    Args:
        base_url: the address of the server.
    """
    url = urlsplit(base_url)
    if url.scheme.lower() == "http" and not _is_loopback(url.hostname or ""):
        logger.warning(
            "%s is plain http: the credentials sent there can be read on the way; use https, "
            "or a tunnel to a loopback address",
            url.hostname,
        )


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost" or name.lower().endswith(".localhost")
