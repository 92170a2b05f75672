"""Who calls: asked anew by every request, of every kernel (difference 12)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from attrs import evolve

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store import callers
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.converter import dumps
from tests.kernel.locks import holding
from tests.kernel.project import Agent, Project, client_of, token_of


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker")


@pytest.fixture(scope="module")
async def neighbour(config: KernelConfig, dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """A second kernel on the same database."""
    async with (
        Database.open(dsn) as database,
        open_kernel(config, database) as kernel,
        client_of(kernel) as client,
    ):
        yield client


async def status_at(client: httpx.AsyncClient, agent: Agent) -> int:
    url = f"/v3r1/projects/{agent.project.id}/agents/worker"
    return (await client.get(url, headers=agent.headers)).status_code


async def test_a_revoked_credential_is_refused_everywhere_at_once(
    worker: Agent, neighbour: httpx.AsyncClient
) -> None:
    """No kernel remembers that it was good."""
    assert await status_at(neighbour, worker) == 200
    credential_id = worker.credential.removeprefix("cgac_").partition(".")[0]
    await worker.post(f"agents/worker/credentials/{credential_id}:revoke", {})
    assert await status_at(worker.project.client, worker) == 403
    assert await status_at(neighbour, worker) == 403


async def test_a_disabled_agent_is_refused_everywhere_at_once(
    project: Project, worker: Agent, neighbour: httpx.AsyncClient
) -> None:
    """The same for an agent."""
    registrar = await project.agent("admin", grants=("agent.registration.birth",))
    assert await status_at(neighbour, worker) == 200
    body = {"agent": worker.json, "requested_by": registrar.json, "enabled": False}
    await registrar.post("management/agents/worker:update", body)
    assert await status_at(neighbour, worker) == 403


async def uses_of(worker: Agent) -> tuple[Any, Any]:
    (credential,) = (await worker.get("agents/worker/credentials"))["credentials"]
    return credential["last_used_at"], credential["updated_at"]


async def test_use_is_noted_once_a_minute(project: Project, worker: Agent) -> None:
    """Busy agents do not queue up at their credential's row; `updated_at` does not move with it."""
    await worker.get("agents/worker")
    first = await uses_of(worker)
    assert first[0] is not None
    await worker.get("agents/worker")
    assert await uses_of(worker) == first
    age = "update cg_credentials set last_used_at = now() - interval '61 s' where project_id = $1"
    await project.kernel.database.execute(age, project.id)
    await worker.get("agents/worker")
    later = await uses_of(worker)
    assert later[0] > first[0]
    assert later[1] == first[1]


async def test_a_locked_credential_does_not_delay_its_use(worker: Agent, dsn: str) -> None:
    """Noting a use waits for nobody."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute(
            "select from cg_credentials where project_id = $1 for update", worker.project.id
        )
        assert await status_at(worker.project.client, worker) == 200
    await connection.close()


async def test_the_names_of_the_headers_can_be_chosen(kernel: Kernel, worker: Agent) -> None:
    """For a gateway that has its own."""
    config = evolve(kernel.config, project_header="X-Own-Project", agent_header="X-Own-Agent")
    headers = {
        "X-Own-Project": worker.ref.project_id,
        "X-Own-Agent": worker.ref.agent_id,
        "Authorization": f"bearer {worker.credential}",
    }
    async with client_of(evolve(kernel, config=config)) as client:
        url = f"/v3r1/projects/{worker.project.id}/agents/worker"
        assert (await client.get(url, headers=headers)).status_code == 200
        assert (await client.get(url, headers=worker.headers)).status_code == 401


# ---------------------------------------------------------------- the busy verbs, which check it themselves


async def spoil_secret(worker: Agent) -> Agent:
    return evolve(worker, credential=worker.credential[:-4] + "AAAA")


async def forget(worker: Agent) -> Agent:
    return evolve(worker, credential="cgac_cred_nobody.AAAA")


async def test_the_large_body_of_a_revoked_credential_is_not_read(worker: Agent) -> None:
    """Also if the credential was good a moment ago: nobody remembers that."""
    body = dumps(worker.dispatching(worker, input="x" * 500_000))
    read: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 10_000):
            read.append(at)
            yield body[at : at + 10_000]

    async def dispatch() -> int:
        path = f"/v3r1/projects/{worker.project.id}/turns:dispatch"
        headers = {**worker.headers, "Content-Type": "application/json"}
        answer = await worker.project.client.post(path, content=chunks(), headers=headers)
        return answer.status_code

    assert await dispatch() == 200
    assert read[-1] > 490_000
    read.clear()
    await revoke(worker)
    assert await dispatch() == 403
    assert read[-1] <= 64 * 1024


async def revoke(worker: Agent) -> Agent:
    await worker.post(f"agents/worker/credentials/{worker.bearer.credential_id}:revoke", {})
    return worker


async def change(worker: Agent, statement: str) -> Agent:
    await worker.project.kernel.database.execute(statement, worker.project.id)
    return worker


async def expire(worker: Agent) -> Agent:
    return await change(worker, "update cg_credentials set expires_at = now() where project_id = $1")


async def disable(worker: Agent) -> Agent:
    return await change(worker, "update cg_agents set enabled = false where project_id = $1")


async def borrow(worker: Agent) -> Agent:
    return evolve(worker, credential=(await worker.project.agent("another")).credential)


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        (spoil_secret, 401, "invalid agent credential secret"),
        (forget, 401, "agent credential not found"),
        (revoke, 403, "agent credential status is not active: revoked"),
        (expire, 401, "agent credential expired"),
        (disable, 403, "authenticated agent is disabled"),
        (borrow, 403, "agent credential identity does not match claimed identity"),
    ],
)
async def test_a_busy_verb_refuses_whoever_a_read_refuses(
    worker: Agent, spoil: Callable[[Agent], Awaitable[Agent]], status: int, message: str
) -> None:
    """In the same words, alone and as one of many, and nothing is changed by it."""
    turn_id = await worker.dispatch(worker)
    claim = await worker.claim()
    before = await worker.project.row(turn_id)
    stranger = await spoil(worker)
    item = {"claim": token_of(claim), "credential": stranger.credential}
    alone = [
        await stranger.ask("POST", "turns:dispatch", stranger.dispatching(worker)),
        await stranger.ask("POST", "agents/worker/claims:claim", {"agent": worker.json}),
        await stranger.append(claim, 1),
        await stranger.renew(claim),
        await stranger.suspend(claim),
        await stranger.finish(claim),
        await stranger.ask("GET", "agents/worker"),
    ]
    many = [
        await stranger.ask("POST", "claims:renew-many", {"items": [item]}),
        await stranger.ask(
            "POST", "turns:settle-many", {"items": [{**item, "finish": {"outcome": "succeeded"}}]}
        ),
    ]
    said = [(answer.status_code, answer.json()["message"]) for answer in alone]
    said += [(one["status"], one["body"]["message"]) for answer in many for one in answer.json()["items"]]
    assert set(said) == {(status, message)}
    assert await worker.project.row(turn_id) == before


async def test_what_was_done_stands_where_its_use_cannot_be_noted(
    project: Project, worker: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while an index is made of them: a claim that was given and not told would run for nobody."""
    monkeypatch.setattr(callers, "_TOUCH_SECONDS", 0.2)
    requester = await project.agent("requester")
    turn = await requester.dispatch(worker)
    await project.kernel.database.execute("update cg_credentials set last_used_at = null")
    async with holding(project, "lock table cg_credentials in share mode"):
        assert (await worker.claim())["turn_id"] == turn
