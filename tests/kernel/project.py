"""A project on a kernel under test, and agents that speak HTTP to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import httpx
from attrs import frozen

from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Connection
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef

T = TypeVar("T")

KIND = "turn.conversation.v1"


def client_of(kernel: Kernel) -> httpx.AsyncClient:
    """A client of the kernel's application, without a socket in between."""
    transport = httpx.ASGITransport(create_app(kernel))
    return httpx.AsyncClient(transport=transport, base_url="http://kernel", timeout=60)


class Project:
    """A project of its own, so that tests can share a database."""

    def __init__(self, kernel: Kernel, client: httpx.AsyncClient, id: str | None = None) -> None:
        self.kernel = kernel
        self.client = client
        self.id = id or f"p-{secrets.token_hex(4)}"
        self.registrar = AgentRef(project_id=self.id, agent_id="registrar")

    async def agent(self, name: str, **spec: Any) -> Agent:
        """Register an agent; it can do conversations unless the spec says otherwise."""
        ref = AgentRef(project_id=self.id, agent_id=name)
        given = AgentSpec(agent_id=name, role="tester", **{"capabilities": (KIND,), **spec})
        database = self.kernel.database
        await register_agent(database, self.registrar, given, Provenance(kind="test", external_ref="test"))
        issued = await issue_credential(database, ref, IssueCredential(), issued_by=None)
        return Agent(self, ref, issued.token)

    async def row(self, turn_id: str) -> Mapping[str, Any]:
        """The turn's row, for what the wire does not show."""
        statement = "select * from cg_turns where project_id = $1 and turn_number = $2"
        row = await self.kernel.database.fetchrow(statement, self.id, int(turn_id.removeprefix("T-")))
        assert row is not None
        return dict(row)

    async def held_count(self, agent: Agent) -> int:
        """How many slots the agent's row says are taken."""
        statement = "select held_count from cg_agents where project_id = $1 and agent_id = $2"
        held: int = await self.kernel.database.fetchval(statement, self.id, agent.ref.agent_id)
        return held


@frozen
class Agent:
    """An agent of the project, and what it does over HTTP."""

    project: Project
    ref: AgentRef
    credential: str

    @property
    def json(self) -> dict[str, str]:
        return {"project_id": self.ref.project_id, "agent_id": self.ref.agent_id}

    @property
    def headers(self) -> dict[str, str]:
        return {
            "X-CG-Project-Id": self.ref.project_id,
            "X-CG-Agent-Id": self.ref.agent_id,
            "Authorization": f"Bearer {self.credential}",
        }

    @property
    def bearer(self) -> PresentedCredential:
        """What its requests show, in the store's words."""
        return PresentedCredential.of(self.ref, self.credential)

    async def ask(
        self, method: str, path: str, json: Any = None, headers: Mapping[str, str] = {}, **query: Any
    ) -> httpx.Response:
        """One request as this agent; `path` is what follows the project."""
        url = f"/v3r1/projects/{self.project.id}/{path}"
        body = {} if json is None else {"json": json}
        return await self.project.client.request(
            method, url, headers={**self.headers, **headers}, params=query, **body
        )

    async def get(self, path: str, headers: Mapping[str, str] = {}, **query: Any) -> Any:
        """A GET that must succeed."""
        return _good(await self.ask("GET", path, headers=headers, **query))

    async def post(self, path: str, json: Any, headers: Mapping[str, str] = {}) -> Any:
        """A POST that must succeed."""
        return _good(await self.ask("POST", path, json, headers))

    def dispatching(self, target: Agent, key: str | None = None, input: Any = "work", **more: Any) -> Any:
        """The body of a root dispatch."""
        key = key or f"k-{secrets.token_hex(6)}"
        return {
            "requested_by": self.json,
            "target_agent": target.json,
            "input": input,
            "turn_kind": KIND,
            "dispatch_key": key,
            "authority": {"mode": "root_request", "request_id": key},
            **more,
        }

    async def dispatch(self, target: Agent, key: str | None = None, input: Any = "work", **more: Any) -> str:
        """Dispatch a root turn; returns its id."""
        turn = await self.post("turns:dispatch", self.dispatching(target, key, input, **more))
        return str(turn["turn_id"])

    async def claim(self, headers: Mapping[str, str] = {}) -> Any:
        """Claim the next turn: a claim token, or None."""
        return await self.post(f"agents/{self.ref.agent_id}/claims:claim", {"agent": self.json}, headers)

    async def renew(self, claim: Any) -> httpx.Response:
        return await self.ask("POST", "claims:renew", {"claim": token_of(claim)})

    async def append(
        self, claim: Any, payload: Any, headers: Mapping[str, str] = {}, **more: Any
    ) -> httpx.Response:
        body = {"claim": token_of(claim), "payload": payload, **more}
        return await self.ask("POST", f"turns/{claim['turn_id']}/semantic-records", body, headers)

    async def finish(self, claim: Any, outcome: str = "succeeded", **more: Any) -> httpx.Response:
        body = {"claim": token_of(claim), "outcome": outcome, **more}
        return await self.ask("POST", f"turns/{claim['turn_id']}:finish", body)

    async def suspend(self, claim: Any, reason: str = "later", **more: Any) -> httpx.Response:
        body = {"claim": token_of(claim), "reason": reason, **more}
        return await self.ask("POST", f"turns/{claim['turn_id']}:suspend", body)

    async def resume(self, turn_id: str, **more: Any) -> httpx.Response:
        return await self.ask("POST", f"turns/{turn_id}:resume", {"requested_by": self.json, **more})

    async def stop(self, turn_id: str, **more: Any) -> httpx.Response:
        turn = {"project_id": self.project.id, "turn_id": turn_id}
        body = {"turn": turn, "requested_by": self.json, **more}
        return await self.ask("POST", f"management/turns/{turn_id}:stop", body)

    async def tell(self, turn_id: str, message: Any, **more: Any) -> httpx.Response:
        body = {"requested_by": self.json, "message": message, **more}
        return await self.ask("POST", f"turns/{turn_id}:tell", body)

    async def redo(self, turn_id: str, **more: Any) -> httpx.Response:
        return await self.ask("POST", f"turns/{turn_id}:redo", {"requested_by": self.json, **more})


async def end_lease(project: Project, turn_id: str) -> None:
    """Let the lease of a running turn have ended, by the database's clock."""
    statement = """
        update cg_turns set claim_expires_at = clock_timestamp() - interval '1 ms'
        where project_id = $1 and turn_number = $2 and state = 'running'
    """
    await project.kernel.database.execute(statement, project.id, int(turn_id.removeprefix("T-")))


async def released_at_once(project: Project, *works: Callable[[], Awaitable[T]]) -> list[T]:
    """What the works give after all of them had to wait for turns that somebody else held."""
    database = project.kernel.database

    async def start(connection: Connection) -> list[asyncio.Future[T]]:
        await connection.execute("select from cg_turns where project_id = $1 for update", project.id)
        started: list[asyncio.Future[T]] = [asyncio.ensure_future(work()) for work in works]
        while await database.fetchval("select count(*) from pg_locks where not granted") < len(works):
            assert not any(work.done() for work in started)
        return started

    return [await work for work in await database.transact(start)]


def token_of(claim: Any) -> dict[str, Any]:
    """A claim as requests show it, without what a representation adds."""
    return {name: claim[name] for name in ("project_id", "turn_id", "agent_id", "token", "expires_at")}


def _good(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()
