"""A light load generator: keep-alive connections that cost next to nothing beside what they measure."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from attrs import frozen

from benchmarks.servers import Agent, Server
from cgworker.wire.turns import CONVERSATION_KIND


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time. It reads answers that say how long they are."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none, but behave so

    def data_received(self, data: bytes) -> None:
        """Take what came, until it is a whole answer."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._received[:head_end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) >= head_end + 4 + length:
            body = bytes(self._received[head_end + 4 : head_end + 4 + length])
            self._received.clear()
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits for an answer gets none."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server hung up: {exc}"))

    async def ask(self, request: bytes) -> Any:
        """As `exchange`, and return the JSON of the answer."""
        return orjson.loads(await self.exchange(request))

    async def exchange(self, request: bytes) -> bytes:
        """Send a request that is ready to go, and return the body of its answer, which must be a 200."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        status, body = await self._answer
        if status != 200:
            raise RuntimeError(f"{request[:200]!r} was answered {status}: {body[:500]!r}")
        return body

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


@frozen
class Caller:
    """An agent on a connection of its own, and what it does over single-turn routes."""

    agent: Agent
    connection: Connection
    host: str

    async def dispatch(self, target: Agent, input: Any = None, **order: Any) -> Any:
        """Give the target a turn; `order` says when and in which order it is claimed."""
        key = secrets.token_hex(8)
        body = {
            "requested_by": self._ref,
            "target_agent": {"project_id": target.ref.project_id, "agent_id": target.ref.agent_id},
            "input": input or {"text": "say hello"},
            "turn_kind": CONVERSATION_KIND,
            "dispatch_key": key,
            "authority": {"mode": "root_request", "request_id": key},
            **order,
        }
        return await self._post("/turns:dispatch", body)

    async def claim(self, *, with_context: bool = False) -> Any:
        """Claim the next turn; where the kernel gives no context with it, that is asked for as well."""
        prefer = "return=representation" if with_context else ""
        path = f"/agents/{self.agent.ref.agent_id}/claims:claim"
        claim = await self._post(path, {"agent": self._ref}, prefer)
        if with_context and claim is not None and "context" not in claim:
            claim["context"] = await self.get(f"/turns/{claim['turn_id']}/context?limit=100")
        return claim

    async def append(self, claim: Any) -> None:
        """Add a record."""
        body = {"claim": _token_of(claim), "payload": {"step": "reading"}}
        await self._post(f"/turns/{claim['turn_id']}/semantic-records", body)

    async def renew(self, claim: Any) -> None:
        """Extend the lease."""
        await self._post("/claims:renew", {"claim": _token_of(claim)})

    async def finish(self, claim: Any, result: Any = None) -> None:
        """Close the turn with a result."""
        payload = result or {"text": "hello"}
        body = {"claim": _token_of(claim), "outcome": "succeeded", "final_payload": payload}
        await self._post(f"/turns/{claim['turn_id']}:finish", body)

    @property
    def _ref(self) -> dict[str, str]:
        return {"project_id": self.agent.ref.project_id, "agent_id": self.agent.ref.agent_id}

    async def get(self, path: str) -> Any:
        """A GET below the project."""
        return await self.connection.ask(self._head("GET", path) + b"\r\n")

    async def get_bytes(self, path: str, *, prefer: str) -> bytes:
        """As `get` with a preference; the answer is not parsed."""
        return await self.connection.exchange(self._head("GET", path) + f"prefer: {prefer}\r\n\r\n".encode())

    async def _post(self, path: str, body: Any, prefer: str = "") -> Any:
        text = orjson.dumps(body)
        more = f"content-type: application/json\r\ncontent-length: {len(text)}\r\n"
        if prefer:
            more += f"prefer: {prefer}\r\n"
        return await self.connection.ask(self._head("POST", path) + more.encode() + b"\r\n" + text)

    def _head(self, method: str, path: str) -> bytes:
        ref = self.agent.ref
        return (
            f"{method} /v3r1/projects/{ref.project_id}{path} HTTP/1.1\r\nhost: {self.host}\r\n"
            f"x-cg-project-id: {ref.project_id}\r\nx-cg-agent-id: {ref.agent_id}\r\n"
            f"authorization: Bearer {self.agent.token}\r\n"
        ).encode()


@asynccontextmanager
async def callers(server: Server, agents: Sequence[Agent]) -> AsyncIterator[list[Caller]]:
    """A connection for each agent, until the block ends."""
    at = urlsplit(server.url)
    loop = asyncio.get_running_loop()
    opened: list[Caller] = []
    try:
        for agent in agents:
            _, connection = await loop.create_connection(Connection, at.hostname or "", at.port or 80)
            opened.append(Caller(agent, connection, at.netloc))
        yield opened
    finally:
        for caller in opened:
            caller.connection.close()


def _token_of(claim: Any) -> dict[str, Any]:
    """A claim as requests show it, without what a representation adds."""
    return {name: claim[name] for name in ("project_id", "turn_id", "agent_id", "token", "expires_at")}
