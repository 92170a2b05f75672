"""Without the database every answer is a 503 that says when to come back, and never a 4xx (difference 1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import httpx

from tests.kernel.project import Agent, Project, token_of


@asynccontextmanager
async def an_outage(postgres: str, dsn: str) -> AsyncIterator[None]:
    """The database ends all connections and lets nobody in, until the block ends."""
    name = urlsplit(dsn).path.lstrip("/")
    operator = await asyncpg.connect(postgres)
    await operator.execute(f'alter database "{name}" allow_connections false')
    end_all = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
    await operator.fetch(end_all, name)
    try:
        yield
    finally:
        await operator.execute(f'alter database "{name}" allow_connections true')
        await operator.close()


async def every_kind_of_request(worker: Agent, claim: Any) -> list[httpx.Response]:
    shown = {"claim": token_of(claim), "credential": worker.credential}
    return [
        await worker.ask("POST", "agents/worker/claims:claim", {"agent": worker.json}),
        await worker.renew(claim),
        await worker.append(claim, 1),
        await worker.finish(claim),
        await worker.suspend(claim),
        await worker.ask("POST", "turns:dispatch", worker.dispatching(worker)),
        await worker.ask("POST", "claims:renew-many", {"items": [shown]}),
        await worker.ask("GET", "turns/T-1"),
        await worker.ask("GET", "turns/T-1/context"),
        await worker.ask("GET", "projection/feed", headers={"Prefer": "wait=20"}),
    ]


async def answered(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The first answer but 503: connections that the outage broke may each have to be met once."""
    with anyio.fail_after(60):
        while True:
            answer = await ask()
            if answer.status_code != 503:
                return answer
            await anyio.sleep(0.02)


async def test_every_request_is_told_to_come_back(
    project: Project, client: httpx.AsyncClient, postgres: str, dsn: str
) -> None:
    """Above all a renewal: a 409 would be read as a lost lease."""
    worker = await project.agent("worker")
    await worker.dispatch(worker)
    claim = await worker.claim()
    async with an_outage(postgres, dsn):
        for answer in await every_kind_of_request(worker, claim):
            assert (answer.status_code, answer.json()["error"]) == (503, "ServiceUnavailable")
            assert int(answer.headers["retry-after"]) >= 1
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert (await client.get("/healthz")).json()["status"] == "ok"
    assert (await answered(lambda: client.get("/readyz"))).json()["status"] == "ready"
    assert (await answered(lambda: worker.finish(claim))).status_code == 200


async def test_who_waited_through_an_outage_is_served(project: Project, postgres: str, dsn: str) -> None:
    """A waiting claim goes on when the database is back, or is told that it was away; it is never stuck."""
    worker = await project.agent("worker", capacity=2)
    answers: list[httpx.Response] = []

    async def wait() -> None:
        body = {"agent": worker.json}
        answers.append(await worker.ask("POST", "agents/worker/claims:claim", body, {"Prefer": "wait=20"}))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        while not project.kernel.notifier.waiting_count:  # noqa: ASYNC110  # nobody tells that one waits
            await anyio.sleep(0.005)
        async with an_outage(postgres, dsn):
            pass
        request = worker.dispatching(worker)
        await answered(lambda: worker.ask("POST", "turns:dispatch", request))
    assert answers[0].status_code in (200, 503)
    if answers[0].status_code == 200:
        assert answers[0].json()["turn_id"] == "T-1"
