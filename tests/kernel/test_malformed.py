"""Bytes that are hardly HTTP, on a real socket: never a 5xx, never a hang, and the kernel serves on."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.kernel.served import PROJECT, Served, a_served_kernel

_TURNS = f"/v3r1/projects/{PROJECT}/turns"
_METADATA = f"/v3r1/projects/{PROJECT}/management/agents/worker/public-metadata"
_AGENT = {"project_id": PROJECT, "agent_id": "worker"}


@pytest.fixture(scope="module")
def served(dsn: str) -> Iterator[Served]:
    """A kernel with admission on a socket."""
    with a_served_kernel(dsn) as served:
        yield served


NO_REQUESTS = {
    "nothing like HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    "an unknown method": b"FROB /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "a version from the future": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "the beginning of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a line break in the target": b"GET /heal\nthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the target": b"GET /heal\x00thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    "a length that is no number": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: many\r\n\r\n",
    "a negative length": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "a length beyond 64 bits": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    + b"9" * 40
    + b"\r\n\r\n",
    "two lengths": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of no known size": b"POST %s:dispatch HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
    b"zz\r\nabc\r\n" % _TURNS.encode(),
    "an unknown coding": b"POST %s:dispatch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nabc"
    % _TURNS.encode(),
}


@pytest.mark.parametrize("raw", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_is_refused_or_dropped(served: Served, raw: bytes) -> None:
    """The client is to blame, if it is told anything at all."""
    status = _status_of(_exchange(served, raw, is_all=True))
    assert status is None or status < 500
    _serves_on(served)


def test_a_body_that_stays_short_is_not_carried_out(served: Served) -> None:
    """A client that hangs up in the middle of its body gets nothing done, and harms nobody."""
    body = json.dumps({"agent": _AGENT, "public_metadata": {"ui": {"label": "half"}}}).encode()
    head = _head(served, "PUT", _METADATA, len(body) + 10)
    assert _status_of(_exchange(served, head + body, is_all=True)) in (None, 503)
    _serves_on(served)
    agent = _exchange(served, _head(served, "GET", f"/v3r1/projects/{PROJECT}/agents/worker", 0))
    assert b"half" not in agent


def test_more_body_than_announced_is_the_next_request(served: Served) -> None:
    """What follows the announced length is read as a request of its own, and refused as such."""
    garbage = _head(served, "PUT", _METADATA, 2) + b"{}garbage\r\n\r\n"
    answer = _exchange(served, garbage, is_all=True)
    assert all(status < 500 for status in _statuses_of(answer))
    _serves_on(served)


@pytest.mark.parametrize("size", [70_000, 2_000_000], ids=["70 kB", "2 MB"])
def test_huge_headers_are_the_clients_fault(served: Served, size: int) -> None:
    """They may be passed over or refused."""
    head = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: "
        + b"a" * size
        + b"\r\n\r\n"
    )
    status = _status_of(_exchange(served, head))
    assert status is None or status < 500
    _serves_on(served)


PATHS = {
    "invalid UTF-8": f"{_TURNS}/%ff%fe",
    "a cut UTF-8 sequence": f"{_TURNS}/%e2%82",
    "a surrogate": f"{_TURNS}/%ed%a0%80",
    "NUL": f"{_TURNS}/T-1%00",
    "a slash": f"{_TURNS}/T-1%2f..%2fT-2",
    "dots": f"{_TURNS}/../turns/./T-1",
    "a percent sign alone": f"{_TURNS}/100%",
    "a line break": f"{_TURNS}/T-1%0d%0aSet-Cookie:x",
    "a number beyond 64 bits": f"{_TURNS}/T-{'9' * 400}",
    "a long id": f"{_TURNS}/{'x' * 20_000}",
    "NUL in the project": "/v3r1/projects/p%00/projection/turns",
    "NUL in the query": f"/v3r1/projects/{PROJECT}/projection/turns?state=%00",
    "invalid UTF-8 in the query": f"/v3r1/projects/{PROJECT}/projection/turns?state=%ff",
    "a surrogate in the query": f"/v3r1/projects/{PROJECT}/projection/turns?state=%ed%a0%80",
    "a limit that is no number": f"/v3r1/projects/{PROJECT}/projection/turns?limit=NaN",
    "a limit beyond 64 bits": f"{_TURNS}/T-1/context?limit={'9' * 5000}",
    "a place beyond 64 bits": f"{_TURNS}/T-1/feed?after_ledger_seq=-{'9' * 30}",
    "a whole address": f"http://127.0.0.1{_TURNS}/T-1",
    "an asterisk": "*",
    "nothing but slashes": "//////",
}


@pytest.mark.parametrize("target", PATHS.values(), ids=PATHS)
def test_a_strange_target_is_the_clients_fault(served: Served, target: str) -> None:
    """Whatever a path or query holds, it is found, not found or refused."""
    status = _status_of(_exchange(served, _head(served, "GET", target, 0)))
    assert status is not None
    assert status < 500
    _serves_on(served)


def test_raw_bytes_in_the_target_are_no_5xx(served: Served) -> None:
    """Not percent-encoded, and not ASCII."""
    raw = _head(served, "GET", f"{_TURNS}/@@", 0).replace(b"@@", b"\xff\xfe\xc3\x28")
    status = _status_of(_exchange(served, raw))
    assert status is None or status < 500
    _serves_on(served)


def _metadata(text: str) -> bytes:
    return b'{"agent": %s, "public_metadata": {"x": %s}}' % (json.dumps(_AGENT).encode(), text.encode())


BODIES = {
    "nothing": (b"", {422}),
    "no JSON": (b"{", {422}),
    "no object": (b"[]", {422}),
    "invalid UTF-8": (b'"\xff\xfe"', {422}),
    "a byte order mark": (b"\xef\xbb\xbf{}", {422}),
    "UTF-16": ("{}".encode("utf-16"), {422}),
    "deep lists": (_metadata("[" * 100_000 + "]" * 100_000), {422}),
    "deep lists that do not end": (b"[" * 1_000_000, {422}),
    "deep objects": (_metadata('{"a":' * 5_000 + "1" + "}" * 5_000), {422}),
    "NaN": (_metadata("NaN"), {422}),
    "Infinity": (_metadata("-Infinity"), {422}),
    "a lone surrogate": (_metadata(r'"\ud800"'), {422}),
    "an escaped NUL": (_metadata(r'"\u0000"'), {200, 409, 422}),
    "a number of 5,000 digits": (_metadata("9" * 5_000), {200, 409, 422}),
    "a number beyond every float": (_metadata("1e999999"), {200, 409, 422}),
    "a number below every float": (_metadata("1e-999999"), {200, 409, 422}),
    "one key twice": (_metadata('1, "x": 2'), {200, 409, 422}),
}


@pytest.mark.parametrize(("body", "statuses"), BODIES.values(), ids=BODIES)
def test_a_strange_body_is_read_or_refused(served: Served, body: bytes, statuses: set[int]) -> None:
    """The faults of a body are 422; what is JSON is not a fault of form."""
    answer = _exchange(served, _head(served, "PUT", _METADATA, len(body)) + body)
    assert _status_of(answer) in statuses
    _serves_on(served)


def test_a_body_over_the_limit_is_413_before_it_is_all_there(served: Served) -> None:
    """Nobody has to send, or to keep, more than the limit."""
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    head = _head(served, "PUT", _METADATA, None)
    assert _status_of(_exchange(served, head + chunk * 17 + b"0\r\n\r\n")) == 413
    _serves_on(served)


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer \xff\xfe", b"Basic Og==", b"Bearer " + b"a" * 8000]
)
def test_a_strange_bearer_is_401(served: Served, value: bytes) -> None:
    """Who calls is not known then."""
    head = _head(served, "GET", f"{_TURNS}/T-1", 0)
    strange = re.sub(rb"Authorization: [^\r]*", lambda _: b"Authorization: " + value, head)
    assert _status_of(_exchange(served, strange)) == 401


_LONG_HEADS = {
    "a header": b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    "many headers": b"X-Short: aaaaaaaaaaaaaaaaaa\r\n" * 3_000 + b"\r\n",
    "a header without end": b"X-Long: " + b"a" * 2_000_000,
}


@pytest.mark.parametrize("headers", _LONG_HEADS.values(), ids=_LONG_HEADS)
def test_a_head_over_the_limit_is_431(served: Served, headers: bytes) -> None:
    """Nobody fills the memory with what never becomes a request."""
    answer = _exchange(served, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers)
    assert _status_of(answer) in (
        431,
        None,
    )  # None: it hung up before our last bytes, which resets the answer
    _serves_on(served)


def test_a_long_head_is_told_why(served: Served) -> None:
    """Where the client has sent all of it, it reads 431."""
    answer = _exchange(served, b"GET /healthz HTTP/1.1\r\nX-Long: " + b"a" * 65_600 + b"\r\n\r\n")
    assert _statuses_of(answer) == [431]


def test_a_long_body_counts_for_no_head(served: Served) -> None:
    """The next request on a connection may come with the end of a body that is longer than any head."""
    body = b'{"x": "' + b"a" * 300_000 + b'"}'
    first = _head(served, "PUT", _METADATA, len(body)).replace(b"Connection: close", b"X-Keep: alive")
    answer = _exchange(served, first + body + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 422 ") == answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    ("begun", "statuses"), [(b"GET /healthz HTTP/1.1\r\nX-Slow: a", [408]), (b"\r\n", [])]
)
def test_a_slow_head_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, begun: bytes, statuses: list[int]
) -> None:
    """A connection is given up when its request does not come."""
    monkeypatch.setattr("cgworker.kernel.http.protocol.HEAD_SECONDS", 0.2)
    assert _statuses_of(_exchange(served, begun)) == statuses
    _serves_on(served)


def _head(served: Served, method: str, target: str, length: int | None) -> bytes:
    """A request up to its body; without a length its body comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    its_headers = {"Host": "localhost", "Content-Type": "application/json", **served.callers["worker"]}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in its_headers.items())]
    return "\r\n".join([*lines, "Connection: close", size, "", ""]).encode()


def _exchange(served: Served, raw: bytes, *, is_all: bool = False) -> bytes:
    """Send, and read until the kernel hangs up; a hang is a failure.

    Args:
        is_all: say that no more comes, where the kernel might wait for it.
    """
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(raw)
            if is_all:
                connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(65536):
                answer += received
        except (ConnectionResetError, BrokenPipeError):
            pass  # it hung up on the rest of what we sent
        return answer


def _statuses_of(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.MULTILINE)]


def _status_of(answer: bytes) -> int | None:
    """The status of the first answer; None where the kernel just hung up."""
    return next(iter(_statuses_of(answer)), None)


def _serves_on(served: Served) -> None:
    """The next request is answered as if nothing had been."""
    answer = _exchange(served, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert _status_of(answer) == 200
