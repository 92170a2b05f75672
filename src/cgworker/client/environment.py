"""Read from the environment how to reach a server: its proxy and the trusted certificate authorities.

The variables and their meaning are those of httpx: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in
upper or lower case, and SSL_CERT_FILE and SSL_CERT_DIR.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from urllib.request import getproxies

import httpx

from cgworker.errors import UsageError

_TRUST_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def proxy_for(url: httpx.URL) -> str | None:
    """Return the address of the proxy for a server; None means to connect directly.

    Args:
        url: the address of the server.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or any(_is_meant(url, entry.strip()) for entry in proxies.get("no", "").split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_meant(url: httpx.URL, entry: str) -> bool:
    """Return True if an entry of NO_PROXY covers the server: `*`, a domain, an address or a URL."""
    if entry == "*":
        return True
    if not entry:
        return False
    scheme, has_scheme, rest = entry.partition("://")
    if not has_scheme:
        scheme, rest = "all", f"[{entry}]" if entry.count(":") > 1 and not entry.startswith("[") else entry
    try:
        named = httpx.URL(f"http://{rest.removeprefix('*').lstrip('.')}")
    except httpx.InvalidURL:
        return False
    is_below = not has_scheme and url.host.endswith(f".{named.host}")
    is_itself = url.host == named.host and not rest.startswith((".", "*."))
    return (
        scheme in ("all", url.scheme)
        and (is_itself or is_below)
        and (named.port is None or named.port == url.port)
    )


def trusted(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings with the trusted certificate authorities.

    Args:
        ca_file: a PEM file with the certificates. None takes those of SSL_CERT_FILE and SSL_CERT_DIR, or
            else the public ones that httpx comes with.

    Raises:
        UsageError: the caller's fault: a file cannot be read, or has no certificate in it.
    """
    return _trusted(ca_file, *(os.environ.get(name) for name in _TRUST_VARIABLES))


@lru_cache(maxsize=32)  # reading takes tens of milliseconds, and a process may have thousands of clients
def _trusted(ca_file: str | None, *variables: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
    except OSError as unreadable:  # includes ssl.SSLError
        told = [f"{name}={value}" for name, value in zip(_TRUST_VARIABLES, variables, strict=True) if value]
        named = ca_file or ", ".join(told)
        raise UsageError(
            f"the trusted certificates cannot be read from {named}: {unreadable}"
        ) from unreadable


def tls_fault_of(error: BaseException, server: str) -> str | None:
    """Return what is wrong with the TLS connection and what to do; None if the error is of another kind.

    Args:
        error: the exception.
        server: the address of the server, for the text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        way_out = (
            "the name in the address must be one of the certificate's"
            if error.verify_code in (62, 64)  # the certificate is for another name, or another address
            else "if its authority is a private one, name the file with the authority's certificate:"
            " SSL_CERT_FILE, --ca-file or ca_file"
        )
        return f"TLS: the certificate of {server} is not trusted ({error.verify_message}): {way_out}"
    if isinstance(error, ssl.SSLError):
        plain = " (is it http:// there?)" if error.reason in _PLAIN_HTTP else ""
        return f"TLS: no encrypted connection with {server}: {error.reason or error}{plain}"
    return None


_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
