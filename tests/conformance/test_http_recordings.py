"""All that was recorded of the reference's kernel and admission, replayed against ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import pytest

from cgworker.kernel.app import create_app, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.seed import issue_admin_credential, seed_project
from tests.conformance.differences import DIFFERENCES
from tests.conformance.replay import Pause, Replay, Step, scenarios, steps_of
from tests.databases import a_database

PROJECT = "cg-demo"
BEARER = "admin-bearer-of-the-replay"
REAPED = "17-reaper"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Reference:
    """The recorded scenarios on one database, each replayed once and in order."""

    def __init__(
        self, clients: Mapping[str | None, httpx.AsyncClient], replay: Replay, names: list[str]
    ) -> None:
        self._clients = clients
        self._replay = replay
        self._ahead = names
        self._found: dict[str, list[str]] = {}

    async def differences(self, scenario: str) -> str:
        """What differed in a scenario and may not, or did not and should have, line by line."""
        while scenario not in self._found:
            name = self._ahead.pop(0)
            self._found[name] = [line async for line in self._replay_one(name)]
        return "\n".join(self._found[scenario])

    async def _replay_one(self, scenario: str) -> AsyncIterator[str]:
        allowed = {title for name, title, _ in DIFFERENCES if name == scenario}
        for step in steps_of(scenario):
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
                continue
            if turn_id := self._replay.unknown_claim(step):
                await self._bear(turn_id)
            found = await self._ask(step)
            if step.title not in allowed:
                for line in found:
                    yield f"{step.title}: {line}"
            elif not found:
                yield f"{step.title}: listed as a difference, and is none"

    async def _bear(self, recorded: str) -> None:
        """Dispatch and claim a turn of scenario 14: not recorded, but it can be told from the rest."""
        number = int(recorded.removeprefix("T-")) - 33
        key = f"fnk-1795367826467016116{number}"
        requester, worker = ({"project_id": PROJECT, "agent_id": f"fn-{who}"} for who in ("req", "wrk"))
        dispatch = {
            "requested_by": requester,
            "target_agent": worker,
            "input": {"i": number},
            "dispatch_key": key,
            "authority": {"mode": "root_request", "request_id": key},
        }
        born = await self._post("fn-req", "turns:dispatch", dispatch)
        claim = await self._post("fn-wrk", "agents/fn-wrk/claims:claim", {"agent": worker})
        self._replay.known |= {recorded: born["turn_id"], f"<claim-token:{recorded}>": claim["token"]}

    async def _post(self, agent_id: str, path: str, body: Mapping[str, Any]) -> Any:
        token = self._replay.known[f"<token:{agent_id}>"]
        headers = {
            "X-CG-Project-Id": PROJECT,
            "X-CG-Agent-Id": agent_id,
            "Authorization": f"Bearer {token}",
        }
        url = f"/v3r1/projects/{PROJECT}/{path}"
        return (await self._clients[None].post(url, json=body, headers=headers)).raise_for_status().json()

    async def _ask(self, step: Step) -> list[str]:
        response = await self._replay.ask(self._clients[step.request.get("server")], step)
        assert response.status_code < 500, response.text
        found = self._replay.differences(step, response)
        self._replay.learn_claim(step, response)
        return found


@pytest.fixture(scope="module")
async def reference(dsn: str) -> AsyncIterator[Reference]:
    """All scenarios but the reaper's, which has a database of its own."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(dsn))
        replay = await _seeded(database, "<token:admin-service>")
        servers = {
            None: await _server(stack, database, KernelConfig(claim_reaper_interval_seconds=0)),
            "lease(1s)": await _server(
                stack, database, KernelConfig(claim_timeout_seconds=1, claim_reaper_interval_seconds=0)
            ),
        }
        yield Reference(servers, replay, [name for name in scenarios() if name != REAPED])


@pytest.fixture(scope="module")
def fresh_dsn(postgres: str, template: str) -> Iterator[str]:
    """The reaper's scenario was recorded on a database of its own."""
    with a_database(postgres, template=template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
async def reaped(fresh_dsn: str) -> AsyncIterator[Reference]:
    """The reaper's scenario: a lease of 1 s, looked for every 0.2 s."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(fresh_dsn))
        replay = await _seeded(database, "<token:admin-service@reap>")
        config = KernelConfig(claim_timeout_seconds=1, claim_reaper_interval_seconds=0.2)
        yield Reference({"reap(1s,0.2s)": await _server(stack, database, config)}, replay, [REAPED])


async def _seeded(database: Database, placeholder: str) -> Replay:
    await seed_project(database, PROJECT)
    token = await issue_admin_credential(database, PROJECT)
    return Replay({placeholder: token, "<admin-bearer>": BEARER})


async def _server(stack: AsyncExitStack, database: Database, config: KernelConfig) -> httpx.AsyncClient:
    kernel = await stack.enter_async_context(open_kernel(config, database))
    app = create_app(kernel, admission_routes(config, project_id=PROJECT, bearer=BEARER))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel")
    return await stack.enter_async_context(client)


@pytest.mark.parametrize("scenario", [name for name in scenarios() if name != REAPED])
async def test_the_kernel_answers_as_the_reference_did(scenario: str, reference: Reference) -> None:
    """But for the listed differences, every answer is the recorded one."""
    assert not await reference.differences(scenario)


async def test_the_reaper_works_as_the_reference_did(reaped: Reference) -> None:
    """The same, for leases that end by themselves."""
    assert not await reaped.differences(REAPED)


def test_the_listed_differences_are_of_recorded_steps() -> None:
    """A renamed or mistyped entry would allow nothing."""
    recorded = {
        (name, step.title) for name in scenarios() for step in steps_of(name) if isinstance(step, Step)
    }
    assert {(name, title) for name, title, _ in DIFFERENCES} <= recorded
