"""The client's own connections, against servers that say exactly what a test wants."""

from __future__ import annotations

import gzip
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from cgworker import KernelClient
from cgworker.client.connections import Connections
from cgworker.client.http1 import connect, plain_request_bytes, read_address, request_bytes
from cgworker.errors import AnswerInvalid, KernelUnreachable

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers each request with the next of its answers, and hangs up after the last."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connection_count = 0
        self.requests: list[bytes] = []
        self.hung_up = anyio.Event()

    async def serve(self, stream: SocketStream) -> None:
        self.connection_count += 1
        async with stream:
            while self.answers:
                try:
                    self.requests.append(await stream.receive())
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                await stream.send(self.answers.pop(0))
        self.hung_up.set()


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[Callable[[], Coroutine[Any, Any, httpx.Response]]]:
    """What sends the server a request over our connections."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        async with httpx.AsyncClient(transport=Connections(), timeout=2) as client:
            yield lambda: client.post(
                f"http://127.0.0.1:{port}/path?a=b", content=b"{}", headers={"x-a": "1"}
            )
        tasks.cancel_scope.cancel()


async def test_a_request_is_one_write_and_its_connection_is_used_again() -> None:
    """What is sent is what httpx was told."""
    server = Server(GOOD, GOOD)
    async with asking(server) as ask:
        assert (await ask()).json() == {}
        assert (await ask()).status_code == 200
    assert server.connection_count == 1
    assert server.requests[0].startswith(b"POST /path?a=b HTTP/1.1\r\n")
    assert b"\r\nx-a: 1\r\n" in server.requests[0].lower()
    assert server.requests[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("content", [b"", b"{}"])
@pytest.mark.parametrize("url", ["http://kernel/a%2Fb", "http://[::1]:8000/\u00fc x?y=1", "http://kernel:80"])
def test_a_request_of_ours_is_that_of_httpx(method: str, content: bytes, url: str) -> None:
    """For which httpx makes many objects."""
    sent = {"x-cg-agent-id": "a", "prefer": "wait=5"}
    ours = plain_request_bytes(method, read_address(url), sent, content)
    theirs = request_bytes(httpx.Request(method, url, headers=sent, content=content))
    assert sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n"))
    assert ours.endswith(b"\r\n\r\n" + content)


async def test_an_answer_may_be_compressed_and_say_something_twice() -> None:
    """As what is between a kernel and its client may do."""
    body = gzip.compress(b'{"ready": true}')
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-encoding: gzip\r\n\r\n" % len(body)
    twice = b'HTTP/1.1 200 OK\r\nLink: <a>; rel="next"\r\nlink: <b>\r\ncontent-length: 2\r\n\r\n{}'
    server = Server(head + body, twice)
    async with listening(server.serve) as url, KernelClient(url) as kernel:
        assert await kernel.readyz() == {"ready": True}
        assert (await kernel.send("GET", "/readyz")).is_cut


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n2\r\n1]\r\n0\r\n\r\n", b"[1]"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", b"[]"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
async def test_every_way_to_say_where_an_answer_ends(answer: bytes, body: bytes) -> None:
    """Whatever it is, the connection is good for the next request."""
    server = Server(answer, GOOD)
    async with asking(server) as ask:
        assert (await ask()).content == body
        assert (await ask()).content == b"{}"
    assert server.connection_count == 1


async def test_an_answer_may_end_with_its_connection() -> None:
    """As HTTP/1.0 ends it."""
    server = Server(b"HTTP/1.0 200 OK\r\n\r\nhello")
    async with asking(server) as ask:
        assert (await ask()).content == b"hello"


async def test_a_connection_that_is_to_be_closed_is_not_used_again() -> None:
    """The server says so."""
    server = Server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", GOOD)
    async with asking(server) as ask:
        await ask()
        await ask()
    assert server.connection_count == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    """A server that restarted, or lost patience, costs no request."""
    server = Server(GOOD)
    async with asking(server) as ask:
        await ask()
        await server.hung_up.wait()
        await anyio.wait_all_tasks_blocked()
        server.answers = [GOOD]
        assert (await ask()).status_code == 200
    assert server.connection_count == 2


async def test_a_connection_on_which_something_came_unasked_is_not_used_again() -> None:
    """It would be taken for the answer to the next request."""
    server = Server(GOOD + b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", GOOD)
    async with asking(server) as ask:
        assert (await ask()).status_code == 200
        await anyio.sleep(0.05)  # what came unasked may arrive after the answer
        assert (await ask()).status_code == 200
    assert server.connection_count == 2


async def test_what_nobody_waits_for_does_not_fill_the_memory() -> None:
    """So much is read; the rest waits at the sender, and none of it is lost."""
    size, sent = 2**25, 0

    async def serve(stream: SocketStream) -> None:
        nonlocal sent
        async with stream:
            for _ in range(size // 2**16):
                await stream.send(bytes(2**16))
                sent += 2**16

    async with listening(serve) as url:
        address = read_address(url)
        async with (await connect(address.origin, 5)).stream as stream:
            await anyio.sleep(0.2)  # time in which all could be sent, were it read
            assert sent < size
            received = 0
            async for data in stream:
                received += len(data)
    assert received == size


async def test_a_request_makes_few_calls(anyio_backend_name: str) -> None:
    """On asyncio; a worker makes one for each of its private steps."""
    if anyio_backend_name != "asyncio":
        return
    server, count = Server(*[GOOD] * 12), 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    async with listening(server.serve) as url, KernelClient(url) as kernel:
        await kernel.readyz()
        async with anyio.create_task_group():
            sys.setprofile(note)
            try:
                for _ in range(10):
                    await kernel.readyz()
            finally:
                sys.setprofile(None)
    assert count / 10 < 280  # of which the server takes half


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
    ],
)
async def test_half_an_answer_is_none(answer: bytes) -> None:
    """It is told as httpx tells it, and nothing is sent a second time."""
    server = Server(answer)
    async with asking(server) as ask:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask()
    assert len(server.requests) == 1


async def test_a_server_that_says_nothing_is_waited_for_so_long_and_no_longer() -> None:
    """The time is httpx's; the connection is not used again."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    timeout = httpx.Timeout(None, read=0.05)
    async with listener, httpx.AsyncClient(transport=Connections(), timeout=timeout) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_nobody_there_is_a_connect_error(free_tcp_port: int) -> None:
    """With the system's reason behind it."""
    async with httpx.AsyncClient(transport=Connections()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{free_tcp_port}/")


async def test_a_cancelled_request_leaves_no_half_read_connection() -> None:
    """The next request gets its own answer, and not the late one."""
    server = Server()
    late = anyio.Event()

    async def slowly(stream: SocketStream) -> None:
        server.connection_count += 1
        async with stream:
            await stream.receive()
            late.set()
            await stream.send(GOOD if server.connection_count == 2 else b"HTTP/1.1 200 OK\r\ncontent-le")
            await anyio.sleep_forever()

    server.serve = slowly  # type: ignore[method-assign]
    async with asking(server) as ask:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await late.wait()
            tasks.cancel_scope.cancel()
        assert (await ask()).content == b"{}"
    assert server.connection_count == 2


async def test_requests_at_one_time_have_connections_of_their_own() -> None:
    """Nobody waits for another's answer."""
    server = Server(GOOD, GOOD, GOOD)
    async with asking(server) as ask, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    assert server.connection_count == 3


async def test_a_client_has_so_many_requests_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait until one has ended, each in its turn; who waits too long is told."""
    monkeypatch.setattr("cgworker.client.connections._MAX_CONNECTIONS", 2)
    go_on, seen, most = anyio.Event(), 0, 0

    async def serve(stream: SocketStream) -> None:
        nonlocal seen, most
        async with stream:
            with suppress(anyio.EndOfStream):
                while await stream.receive():
                    seen += 1
                    most = max(most, seen)
                    await go_on.wait()
                    seen -= 1
                    await stream.send(GOOD)

    async with (
        listening(serve) as url,
        httpx.AsyncClient(transport=Connections(), timeout=5) as client,
        anyio.create_task_group() as asking_all,
    ):
        for _ in range(7):
            asking_all.start_soon(client.get, url)
        with anyio.fail_after(60):
            while seen < 2:  # noqa: ASYNC110  # the server's side learns of it by itself
                await anyio.sleep(0.01)
        with pytest.raises(httpx.PoolTimeout):
            await client.get(url, timeout=httpx.Timeout(5, pool=0.05))
        go_on.set()
    assert (seen, most) == (0, 2)


async def test_what_is_not_plain_goes_to_httpxs_own_transport() -> None:
    """A body in pieces is sent as httpx sends it."""
    server = Server(GOOD)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        async with httpx.AsyncClient(transport=Connections(), timeout=2) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/", content=pieces())
            assert answer.json() == {}
        tasks.cancel_scope.cancel()
    assert b"transfer-encoding: chunked" in server.requests[0].lower()


@asynccontextmanager
async def listening(serve: Callable[[SocketStream], Coroutine[Any, Any, None]]) -> AsyncIterator[str]:
    """The address of a server that runs while the block does."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/"
        tasks.cancel_scope.cancel()


async def test_who_is_cancelled_leaves_no_connection_open() -> None:
    """The client is closed on the way out of a cancelled block, each of its connections with it."""
    both_asked, closed_count = anyio.Event(), 0

    async def serve(stream: SocketStream) -> None:
        nonlocal closed_count
        async with stream:
            await stream.receive()
            await both_asked.wait()  # so that the second request has a connection of its own
            await stream.send(GOOD)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            closed_count += 1

    async with listening(serve) as url:
        with anyio.CancelScope() as scope:
            async with httpx.AsyncClient(transport=Connections(), timeout=5) as client:
                async with anyio.create_task_group() as asking_both:
                    asking_both.start_soon(client.get, url)
                    asking_both.start_soon(client.get, url)
                    await anyio.wait_all_tasks_blocked()
                    both_asked.set()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        with anyio.fail_after(60):
            while closed_count < 2:  # noqa: ASYNC110  # the server's side learns of it by itself
                await anyio.sleep(0.01)


async def test_a_client_that_was_closed_keeps_no_connection_for_later() -> None:
    """An answer that comes after the client was closed is the last one on its connection."""
    asked, may_answer, is_closed = anyio.Event(), anyio.Event(), anyio.Event()

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            asked.set()
            await may_answer.wait()
            await stream.send(GOOD)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            is_closed.set()

    async with listening(serve) as url, anyio.create_task_group() as tasks:
        connections = Connections()
        request = httpx.Request("GET", url)
        tasks.start_soon(connections.handle_async_request, request)
        await asked.wait()
        await connections.aclose()
        may_answer.set()
        with anyio.fail_after(60):
            await is_closed.wait()


async def test_a_large_request_that_is_refused_by_its_head_gets_its_answer() -> None:
    """A server may answer and close although the body is still on its way; the answer is not lost with it."""
    refusal = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"

    async def refuse(stream: SocketStream) -> None:
        async with stream:
            await stream.receive(1024)
            await stream.send(refusal)
            await anyio.sleep(0.2)  # and the rest of the body is never read

    async with listening(refuse) as url, httpx.AsyncClient(transport=Connections(), timeout=10) as client:
        for _ in range(2):  # nor is the connection used again
            assert (await client.post(url, content=b"x" * 17_000_000)).status_code == 413


async def test_clients_share_what_is_idle_and_the_last_one_closes_it() -> None:
    """A connection carries no identity: what one client has done with, the next one uses."""
    connection_count, is_closed = 0, anyio.Event()

    async def serve(stream: SocketStream) -> None:
        nonlocal connection_count
        connection_count += 1
        async with stream:
            for _ in range(3):
                await stream.receive()
                await stream.send(GOOD)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            is_closed.set()

    async with listening(serve) as url:
        async with httpx.AsyncClient(transport=Connections()) as one:
            async with httpx.AsyncClient(transport=Connections()) as other:
                await one.get(url)
                await other.get(url)
            await one.get(url)
            assert connection_count == 1
            assert not is_closed.is_set()
        with anyio.fail_after(60):
            await is_closed.wait()


# ---------------------------------------------------------------- as a client uses them


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 7\r\n\r\nno gzip",
    ],
    ids=["not JSON", "not gzip"],
)
async def test_what_is_no_answer_is_said_with_its_address(answer: bytes) -> None:
    """Something else listens there; the address is what a user has to mend."""
    async with listening(Server(answer).serve) as url, KernelClient(url) as kernel:
        with pytest.raises(AnswerInvalid, match=url.rstrip("/")):
            await kernel.readyz()


async def test_who_could_not_be_reached_is_in_the_cause(free_tcp_port: int) -> None:
    """Whoever reports the error can name the server that was asked."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    async with KernelClient(url) as kernel:
        with pytest.raises(KernelUnreachable) as raised:
            await kernel.readyz()
    assert isinstance(raised.value.__cause__, httpx.ConnectError)
    assert str(raised.value.__cause__.request.url).startswith(url)
