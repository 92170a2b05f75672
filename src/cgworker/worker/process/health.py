"""Serve a health endpoint, which is ready if every worker could run a turn now.

The HTTP is written by hand, so that a worker needs no web framework for two fixed answers. The endpoint runs
in the event loop of the workers on purpose: if the loop is blocked, the endpoint does not answer either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc
import anyio.to_thread

from cgworker import events
from cgworker.errors import CommonGroundError
from cgworker.events import Event
from cgworker.lease import monotonic
from cgworker.wire.converter import dumps
from cgworker.worker.worker import Worker

FAILING_SECONDS = 120.0
_MAX_HEAD_BYTES = 8192
_READ_SECONDS = 5.0
_MAX_CONNECTIONS = 32


class WorkerHealth:
    """Whether one worker could run a turn now, derived from its events.

    Args:
        worker: the worker, which must not run yet.
        failing_seconds: the seconds that claiming may fail, as during a restart of the kernel, before the
            worker is not ready.
    """

    def __init__(self, worker: Worker, *, failing_seconds: float = FAILING_SECONDS) -> None:
        self._worker = worker
        self._failing_seconds = failing_seconds
        self._claims = False
        self._concurrency = 0
        self._failing_since: float | None = None
        self._refused: str | None = None
        self._error = ""
        self._stuck_count = 0
        worker.listen(self.note, turns=False)

    async def fault(self) -> str | None:
        """Return why no turn could be run now; None if one could."""
        if not self._claims:
            return self.trouble() or "it does not claim: it starts, drains or has ended"
        if self._stuck_count >= self._concurrency:
            return f"{self._stuck_count} handlers are stuck: as many as may run at once"
        if self._refused is not None:
            return f"the kernel refuses its credential: {self._refused}"
        if self._failing_since is not None and monotonic() - self._failing_since >= self._failing_seconds:
            return self.trouble()
        return await anyio.to_thread.run_sync(self._fault_on_disk)

    def trouble(self) -> str | None:
        """Return why claiming fails now, whether the worker is ready or not; None if claiming works."""
        if self._failing_since is None:
            return None
        return f"claiming has failed for {monotonic() - self._failing_since:.0f} s: {self._error}"

    def _fault_on_disk(self) -> str | None:
        try:
            if (fault := self._worker.room().find_fault()) is not None:
                return fault
            self._worker.check_commands()
        except CommonGroundError as unusable:
            return str(unusable)
        return None

    def note(self, event: Event) -> None:
        """Update the health by an event."""
        match event:
            case events.WorkerStarted():
                self._claims, self._concurrency, self._stuck_count = True, event.concurrency, 0
            case events.WorkerDraining() | events.WorkerStopped():
                self._claims, self._failing_since = False, None
            case events.ClaimingFailed():
                self._error = event.error
                if self._failing_since is None:  # the event comes again when the error changes
                    self._failing_since = monotonic()
                self._refused = event.error if event.refused else None
            case events.ClaimingRecovered():
                self._failing_since = self._refused = None
            case events.HandlerStuck():
                self._stuck_count = event.stuck_count


async def serve_health(
    workers: Sequence[Worker],
    port: int,
    *,
    host: str = "127.0.0.1",
    failing_seconds: float = FAILING_SECONDS,
    task_status: anyio.abc.TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer `GET /healthz` (the event loop runs) and `GET /readyz` (200 if every worker could run a turn).

    Start it before the workers run, in a task group; it ends when cancelled.

    Args:
        workers: the workers; none of them may run yet.
        port: the port to listen on; 0 takes a free one.
        host: the address to listen on. The answers name agents: use loopback, the default, unless a network
            policy restricts access.
        failing_seconds: the seconds that claiming may fail before a worker is not ready; by default 120.
        task_status: started with the port.

    Raises:
        OSError: the port is in use, or the address is not one of this machine.
    """
    healths = {str(worker.agent): WorkerHealth(worker, failing_seconds=failing_seconds) for worker in workers}
    connections = anyio.Semaphore(_MAX_CONNECTIONS)
    async with await anyio.create_tcp_listener(local_host=host, local_port=port) as listener:
        task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
        await listener.serve(partial(_answer, healths, connections))


@asynccontextmanager
async def answering_health(workers: Sequence[Worker], port: int | None) -> AsyncIterator[None]:
    """Serve the health of the workers on loopback while the block runs.

    Args:
        workers: the workers; none of them may run yet.
        port: the port to listen on; None serves nothing.
    """
    if port is None:
        yield
        return
    async with anyio.create_task_group() as serving:
        bound = await serving.start(serve_health, workers, port)
        events.logger.info("health: http://127.0.0.1:%d/readyz", bound)
        yield
        serving.cancel_scope.cancel()


async def _answer(
    healths: dict[str, WorkerHealth], connections: anyio.Semaphore, stream: anyio.abc.SocketStream
) -> None:
    """Answer one request and close the connection, at the latest after five seconds."""
    with anyio.move_on_after(_READ_SECONDS):
        async with stream, connections:
            try:
                status, body = await _look(healths, await _read_target(stream))
                await stream.send(_response(status, body))
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                return  # the client disconnected


async def _read_target(stream: anyio.abc.SocketStream) -> str | None:
    """Read the request head and return the path of a GET; None for another method or a too large head."""
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _MAX_HEAD_BYTES:
            return None
        head += await stream.receive()
    method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
    target = rest.rpartition(b" ")[0].partition(b"?")[0]
    return target.decode("latin-1") if method == b"GET" else None


async def _look(healths: dict[str, WorkerHealth], target: str | None) -> tuple[str, object]:
    if target == "/healthz":
        return "200 OK", {"status": "live"}
    if target == "/readyz":
        faults = {agent: fault for agent, health in healths.items() if (fault := await health.fault())}
        if faults:
            return "503 Service Unavailable", {"status": "not ready", "faults": faults}
        troubles = {agent: trouble for agent, health in healths.items() if (trouble := health.trouble())}
        return "200 OK", {"status": "ready", **({"troubles": troubles} if troubles else {})}
    if target is None:
        return "400 Bad Request", {"status": "only GET is understood"}
    return "404 Not Found", {"status": "there are /healthz and /readyz"}


def _response(status: str, body: object) -> bytes:
    content = dumps(body) + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
