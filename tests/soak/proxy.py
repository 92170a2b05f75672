"""A proxy between everybody and the kernels that loses, delays and stalls what passes through it."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from attrs import define, field

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_FAULTS = {"lose request": 0.01, "lose answer": 0.03, "delay": 0.04, "stall": 0.005}
_STALL_SECONDS = 7.0


@define
class Proxy:
    """Passes each connection to one of the kernels.

    Args:
        ports: where kernels may be found.
        chance: what decides which exchange meets a fault.

    Attributes:
        statuses: what was answered when, for answers of 500 and above.
        played: how often each fault was played.
        exchanges: how many requests each kernel got, by its port.
        is_faulty: False lets everything through.
    """

    ports: list[int]
    chance: random.Random
    statuses: list[tuple[float, int]] = field(factory=list)
    played: Counter[str] = field(factory=Counter)
    exchanges: Counter[int] = field(factory=Counter)
    is_faulty: bool = True
    _server: asyncio.Server | None = None
    _passing: set[asyncio.Task[None]] = field(factory=set)

    async def start(self) -> str:
        """Listen; returns the base URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.close()
        for passing in list(self._passing):
            passing.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._pass_through(reader, writer)
        finally:
            self._passing.discard(task)
            writer.close()

    async def _pass_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            return
        reader_from_kernel, writer_to_kernel, port = upstream
        exchange = _Exchange(self, port)
        try:
            ways = [
                asyncio.create_task(_pump(reader, writer_to_kernel, exchange.request)),
                asyncio.create_task(_pump(reader_from_kernel, writer, exchange.answer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            writer_to_kernel.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int] | None:
        """To a kernel that takes connections, with its port; None if there is none."""
        for port in self.chance.sample(self.ports, len(self.ports)):
            with suppress(OSError):
                return *await asyncio.open_connection("127.0.0.1", port), port
        return None

    def choose(self) -> str | None:
        """The fault of the next exchange."""
        number = self.chance.random()
        for fault, likelihood in _FAULTS.items():
            number -= likelihood
            if number < 0 and self.is_faulty:
                self.played[fault] += 1
                return fault
        return None


class _Cut(OSError):
    """The connection is to be cut."""


class _Exchange:
    """What is being asked on one connection. HTTP/1.1 without pipelining: an answer follows its request."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self._proxy = proxy
        self._port = port
        self._fault: str | None = None
        self._awaits_answer = False

    async def request(self, _: bytes) -> None:
        if self._awaits_answer:
            return
        self._awaits_answer = True
        self._proxy.exchanges[self._port] += 1
        self._fault = self._proxy.choose()
        if self._fault == "lose request":
            raise _Cut

    async def answer(self, data: bytes) -> None:
        if not self._awaits_answer:
            return
        self._awaits_answer = False
        if (found := _STATUS.match(data)) and int(found[1]) >= 500:
            self._proxy.statuses.append((time.monotonic(), int(found[1])))
        match self._fault:
            case "delay":
                await asyncio.sleep(self._proxy.chance.uniform(0.2, 1.5))
            case "stall":
                await asyncio.sleep(_STALL_SECONDS)
                raise _Cut
            case "lose answer":
                raise _Cut


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, look: Callable[[bytes], Awaitable[None]]
) -> None:
    while data := await source.read(65536):
        await look(data)
        target.write(data)
        await target.drain()
