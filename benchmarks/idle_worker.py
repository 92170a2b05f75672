"""Row 6: what a worker costs while there is nothing to do: requests a minute, and CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anyio
import httpx

from benchmarks.measuring import Findings, Options, Row, main
from benchmarks.servers import Agent, Server, kernel_of
from cgworker import KernelClient, Turn, Worker, WorkerOptions
from cgworker.client.connections import Connections

ROW = Row(6, "an idle worker's requests a minute, and its CPU", "≤ 2; ≤ 0.1 %")

_SETTLED_SECONDS = 3.0  # what a worker asks once, when it starts, is over by then
_SECONDS = 60.0


class Counted(httpx.AsyncBaseTransport):
    """The client's own connections, with the requests counted."""

    def __init__(self) -> None:
        self.count = 0
        self._connections = Connections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Count it, and send it."""
        self.count += 1
        return await self._connections.handle_async_request(request)


async def measure(options: Options) -> Findings:
    """One worker in this process, which does nothing else, a minute a round."""
    findings = Findings()
    async with kernel_of(options) as server:
        agent = await server.admit("bench-idle")
        for _ in range(options.rounds):
            await _round(server, agent, findings)
    findings.judge_most("≤ 2 requests a minute", findings.median("cgworker", "requests"), "a minute", most=2)
    findings.judge_most("≤ 0.1 % CPU", findings.median("cgworker", "CPU"), "%", most=0.1)
    return findings


async def _round(server: Server, agent: Agent, findings: Findings) -> None:
    counted = Counted()
    with tempfile.TemporaryDirectory() as outbox:
        async with httpx.AsyncClient(transport=counted) as http:
            kernel = KernelClient(server.url, agent=agent.ref, token=agent.token, http=http)
            worker = Worker(kernel, _nothing, options=WorkerOptions(outbox_path=Path(outbox)))
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await anyio.sleep(_SETTLED_SECONDS)
                requests, cpu, begun = counted.count, time.process_time(), time.perf_counter()
                await anyio.sleep(_SECONDS)
                took = time.perf_counter() - begun
                findings.add("cgworker", "requests", "1/min", (counted.count - requests) / took * 60)
                findings.add("cgworker", "CPU", "%", (time.process_time() - cpu) / took * 100)
                worker.drain()


async def _nothing(_: Turn) -> None:
    """A handler, since a worker must have one."""


if __name__ == "__main__":
    main(ROW, measure, rounds=2)
