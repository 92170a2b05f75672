"""One HTTP exchange: send a request, read the answer, and translate every failure into an error of ours.

Nothing is retried here: only the caller knows whether a repeat is safe.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx
from attrs import frozen

from cgworker.client.connections import Connections
from cgworker.client.environment import tls_fault_of
from cgworker.client.http1 import read_address
from cgworker.client.response import PlainResponse
from cgworker.errors import (
    REFUSALS,
    AnswerInvalid,
    CommonGroundError,
    ConflictError,
    ForbiddenError,
    InvalidRequest,
    KernelOverloaded,
    KernelRefused,
    KernelTimedOut,
    KernelUnreachable,
    NotFoundError,
    PayloadTooLarge,
    UnauthorizedError,
    UsageError,
)
from cgworker.wire.converter import dumps, loads
from cgworker.wire.records import JSON_LINES

WAIT_MARGIN_SECONDS = 10.0
"""How much longer than the long poll itself the client waits for the answer."""

REPRESENTED: Mapping[str, str] = {"prefer": "return=representation"}
"""The header that requests a claim with its context (difference 8)."""

_RETRYABLE = frozenset({408, 425, 429})
_BY_STATUS: Mapping[int, type[KernelRefused]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLarge,
}
_CODES: Mapping[int, str] = {400: "bad_request", 422: "invalid_input"}


@frozen
class Answer:
    """A successful answer: its JSON, and whether the kernel waited as asked (difference 7).

    Attributes:
        body: the JSON value; None if the answer has no body. Of JSON lines, a list of their bytes.
        headers: the answer's headers.
    """

    body: Any
    headers: Mapping[str, str]

    @property
    def waited(self) -> bool:
        """True if the kernel honoured `Prefer: wait`."""
        return "wait" in self.headers.get("preference-applied", "")

    @property
    def is_cut(self) -> bool:
        """True if the kernel ended a page early because of its size (difference 11)."""
        return 'rel="next"' in self.headers.get("link", "")

    def has_more(self, count: int, limit: int) -> bool:
        """Return True if the page may not be the last one: it is full, or the kernel cut it.

        Args:
            count: how many items the page has.
            limit: how many were asked for.
        """
        return count > 0 and (count >= limit or self.is_cut)


class Transport:
    """Connections to one server.

    Args:
        base_url: the address of the server, such as `http://127.0.0.1:8000`.
        timeout_seconds: how long to wait for one answer; the time of a long poll comes on top.
        http: an httpx client to use, for instance with another transport; the caller closes it.
        ca_file: a PEM file with the trusted certificate authorities; by default those of SSL_CERT_FILE or
            SSL_CERT_DIR, else the public ones.

    Raises:
        UsageError: the caller's fault: `base_url` is not an address of a server.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float = 5.0,
        http: httpx.AsyncClient | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        _check_address(base_url)
        self.ca_file: str | None = None if ca_file is None else str(Path(ca_file).expanduser())
        self.base_url: str = base_url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self._given = http
        self._own: Connections | None = None

    @property
    def _connections(self) -> Connections:
        """Our own connections, made on demand: among many agents, most clients never send anything."""
        self._own = self._own or Connections(self.ca_file)
        return self._own

    async def aclose(self) -> None:
        """Close the connections, if they are our own."""
        if self._given is None:
            await self._connections.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0,
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: the HTTP method.
            path: the path, with its segments encoded.
            body: a wire type or JSON value; None sends no body.
            query: the query parameters; those that are None are left out.
            headers: more headers.
            wait_seconds: how long the kernel may wait for news (`Prefer: wait`); 0 does not ask it to.

        Raises:
            KernelRefused: the kernel said no.
            KernelTrouble: no usable answer came; the request may or may not have been carried out.
            AnswerInvalid: the answer is not JSON, or a redirect.
            UsageError: the caller's fault: a header cannot be sent, or the environment names a proxy or
                certificate authorities that cannot be used. Nothing was sent.
        """
        content = None if body is None else dumps(body)
        sent = {"content-type": "application/json", **(headers or {})} if content else dict(headers or {})
        if wait_seconds >= 1:
            sent["prefer"] = ", ".join(filter(None, [sent.get("prefer"), f"wait={int(wait_seconds)}"]))
        _check_headers(sent)
        timeout = self.timeout_seconds + (wait_seconds + WAIT_MARGIN_SECONDS if wait_seconds else 0)
        try:
            response = await self._exchange(
                method,
                self.base_url + path,
                content=content,
                params=_spelled(query),
                headers=sent,
                timeout=timeout,
            )
        except httpx.TimeoutException as late:
            raise KernelTimedOut(f"no answer from {self.base_url} within {timeout:g} s") from late
        except httpx.InvalidURL as wrong:
            raise UsageError(f"not an address: {self.base_url + path!r}: {wrong}") from wrong
        except httpx.ProxyError as refused:
            raise KernelUnreachable(
                f"the proxy on the way to {self.base_url} says: {refused}"
                " (NO_PROXY lists the servers that are reached without it)",
                address=self.base_url,
            ) from refused
        except httpx.TransportError as broken:
            raise KernelUnreachable(_reason_of(broken, self.base_url), address=self.base_url) from broken
        except httpx.DecodingError as broken:
            raise AnswerInvalid(f"{self.base_url} answered something unreadable: {broken}") from broken
        if response.status_code >= 400:
            raise error_of(response.status_code, response.text, response.headers)
        if response.status_code >= 300:
            # A redirect has no body, and an empty body would be read as "no work".
            raise AnswerInvalid(
                f"{self.base_url} redirects to {response.headers.get('location')}: use that address"
            )
        return Answer(_parse(response, self.base_url + path), response.headers)

    async def _exchange(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> httpx.Response | PlainResponse:
        """Send with the given httpx client, or without one: making one costs more than all the rest."""
        address = read_address(url)
        try:
            if self._given is None and params is None and self._connections.reaches(address):
                return await self._connections.send(method, address, headers, content or b"", timeout)
            return await self._exchange_by_httpx(
                method,
                address.url,
                content=content,
                params=params,
                headers=headers,
                extensions={"timeout": httpx.Timeout(timeout).as_dict()},
            )
        except httpx.RequestError as broken:
            broken.request = httpx.Request(method, address.url)  # an error report names the server
            raise

    async def _exchange_by_httpx(self, method: str, url: httpx.URL, **request: Any) -> httpx.Response:
        if self._given is not None:
            return await self._given.send(self._given.build_request(method, url, **request))
        response = await self._connections.handle_async_request(httpx.Request(method, url, **request))
        async with aclosing(response):
            await response.aread()
        return response


def _reason_of(broken: Exception, server: str) -> str:
    """Return the reason that the operating system or TLS gave; httpx's own text names only the attempt."""
    os_error, error = None, cast("BaseException | None", broken)
    while error is not None:
        if (fault := tls_fault_of(error, server)) is not None:
            return fault
        if isinstance(error, OSError) and error.errno:
            os_error = error
        error = (
            error.exceptions[-1]
            if isinstance(error, BaseExceptionGroup)
            else error.__cause__ or error.__context__
        )
    if os_error is None or os_error.errno is None:
        return str(broken) or type(broken).__name__
    return (
        f"[Errno {os_error.errno}] {os.strerror(os_error.errno) if os_error.errno > 0 else os_error.strerror}"
    )


def _check_address(base_url: str) -> None:
    """Refuse an address that no path can be appended to, or that breaks inside httpx."""
    if re.search(r"[\x00-\x20\x7f?#]", base_url):
        raise UsageError(
            f"not an address of a server: {base_url!r} has blanks, control characters, a query or a fragment"
        )
    found = re.search(r":(\d+)/*\Z", base_url)
    if found and int(found[1]) > 65535:
        raise UsageError(f"not a port: {found[1]} in {base_url}")


_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a header value with CR, LF, NUL or another character that no header can carry.

    The message does not show the value, which may be a secret.
    """
    for name, value in headers.items():
        if not _HEADER_VALUE.fullmatch(value) or not _HEADER_VALUE.fullmatch(name):
            what = _CARRIES.get(name.lower(), "its value")
            raise UsageError(
                f"the header {name!r} cannot be sent: {what} has a line break, a NUL or another character"
                " that is not printable ASCII"
            )


_CARRIES: Mapping[str, str] = {
    "authorization": "the token",
    "x-cg-agent-id": "the agent's id",
    "x-cg-project-id": "the project's id",
    "idempotency-key": "the key",
}


def error_of(status: int, text: str, headers: Mapping[str, str]) -> CommonGroundError:
    """Return the error that an answer of status 400 or above stands for.

    Args:
        status: the HTTP status.
        text: the answer's body; it becomes the error's `answer`.
        headers: the answer's headers.
    """
    error = _error_of(status, text, headers)
    error.answer = text
    return error


def _error_of(status: int, text: str, headers: Mapping[str, str]) -> CommonGroundError:
    body = _json_or_none(text)
    text_in_body = body.get("message") if isinstance(body, dict) else None
    message = text_in_body if isinstance(text_in_body, str) else text.strip() or f"HTTP status {status}"
    if status >= 500 or status in _RETRYABLE:
        return KernelOverloaded(message, status=status, retry_after_seconds=_retry_after(headers))
    if isinstance(body, dict) and isinstance(body.get("code"), str):
        return KernelRefused(message, code=body["code"], status=status)
    if isinstance(body, dict) and body.get("error") in REFUSALS:
        return REFUSALS[body["error"]](message)
    if status == 422 and isinstance(body, dict) and isinstance(body.get("detail"), list):
        return InvalidRequest([fault for fault in body["detail"] if isinstance(fault, dict)])
    if status in _BY_STATUS:
        return _BY_STATUS[status](message)
    return KernelRefused(message, code=_CODES.get(status, "http_error"), status=status)


def _parse(response: httpx.Response | PlainResponse, url: str) -> Any:
    if not response.content:
        return None
    if response.headers.get("content-type") == JSON_LINES:
        return response.content.split(b"\n")
    try:
        return loads(response.content)
    except (json.JSONDecodeError, RecursionError) as broken:
        raise AnswerInvalid(f"{url} answered something that is not JSON: {broken}") from broken


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header; None if there is none or it is a date."""
    value = headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() else None


def _spelled(query: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return the query as httpx sends it; None if it is empty, so that httpx parses the URL only once."""
    if not query:
        return None
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
