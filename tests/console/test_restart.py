"""The console while its kernel is killed and started again."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cgworker import AgentRef, KernelClient
from cgworker.console import console_app
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest
from tests.console.serving import plot_numbers
from tests.kernel.killing import MortalKernel

FORM = f"/dispatch/worker/{CONVERSATION_KIND}"


@pytest.fixture
async def mortal(dsn: str, tmp_path: Path) -> AsyncIterator[MortalKernel]:
    """A kernel that can be killed."""
    mortal = MortalKernel(f"restarted-{secrets.token_hex(4)}", dsn, tmp_path)
    await mortal.start()
    yield mortal
    mortal.kill()


@asynccontextmanager
async def browsing(kernel: KernelClient) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a window, at a console of its own."""
    app = console_app(kernel)
    transport = httpx.ASGITransport(app=app)
    origin = {"origin": "http://console"}
    async with httpx.AsyncClient(transport=transport, base_url="http://console", headers=origin) as browser:
        yield browser
    await app.state.console.stop()


async def a_client(mortal: MortalKernel) -> KernelClient:
    """A client of a new agent."""
    agent = AgentRef(project_id=mortal.project_id, agent_id="worker")
    spec = AgentSpec(agent_id="worker", role="tester", capabilities=(CONVERSATION_KIND,))
    async with Database.open(mortal.dsn) as database:
        operator = AgentRef(project_id=mortal.project_id, agent_id="admin-service")
        await register_agent(database, operator, spec, Provenance(kind="test", external_ref="test"))
        issued = await issue_credential(database, agent, IssueCredential(), issued_by="admin-service")
    return KernelClient(mortal.base_url, agent=agent, token=issued.token)


async def do(kernel: KernelClient, key: str, outcome: Any = None) -> None:
    """Dispatch a turn, and with an outcome claim and close it."""
    assert kernel.agent is not None
    order = Dispatch(
        requested_by=kernel.agent,
        target_agent=kernel.agent,
        input={},
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )
    await kernel.turns.dispatch(order)
    if outcome:
        claim = (await kernel.claims.claim(kernel.agent)).claimed
        assert claim is not None
        await kernel.turns.finish(claim, outcome)


async def counted(browser: httpx.AsyncClient) -> dict[str, int]:
    """What the plots of the last hour count, and their last levels."""
    data = plot_numbers((await browser.get("/?window=3600", headers={"HX-Request": "true"})).text)
    sums = {name: sum(data[name]) for name in ("succeeded", "failed", "stopped")}
    return sums | {name: data[name][-1] for name in ("queued", "held")}


async def until_counted(browser: httpx.AsyncClient, wanted: dict[str, int]) -> None:
    """Return once the plots count this."""
    seen: dict[str, int] = {}
    try:
        with anyio.fail_after(60):
            while (seen := await counted(browser)) != wanted:  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(seen) from None


def fields_of(html: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    form = html.rpartition('<form method="post"')[2]
    found = re.findall(r'name="([^"]*)" value="([^"]*)"', form)
    return {unescape(name): unescape(value) for name, value in found}


async def test_the_plots_go_on_over_a_restart_of_the_kernel(mortal: MortalKernel) -> None:
    """Nothing is lost or counted twice: one that was there and one that begins now count the same."""
    async with await a_client(mortal) as kernel, browsing(kernel) as browser:
        await do(kernel, "before")
        await do(kernel, "good", "succeeded")
        await do(kernel, "bad", "failed")
        await until_counted(browser, {"succeeded": 1, "failed": 1, "stopped": 0, "queued": 1, "held": 0})
        mortal.kill()
        with anyio.fail_after(60):
            while "does not answer" not in (await browser.get("/agents")).text:  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.1)
        await mortal.start()
        await do(kernel, "after", "succeeded")
        wanted = {"succeeded": 2, "failed": 1, "stopped": 0, "queued": 1, "held": 0}
        await until_counted(browser, wanted)
        async with browsing(kernel) as another:
            await until_counted(another, wanted)


async def test_what_was_typed_survives_a_kernel_that_is_killed_meanwhile(mortal: MortalKernel) -> None:
    """The page keeps it, and sends it when the kernel is back: once, however often."""
    async with await a_client(mortal) as kernel, browsing(kernel) as browser:
        form = fields_of((await browser.get(FORM)).text)
        typed = {**form, "v": '{"task": "a long text"}'}
        mortal.kill()
        refused = await browser.post(FORM, data=typed)
        assert refused.status_code == 503
        kept = fields_of(refused.text)
        assert kept == typed
        await mortal.start()
        sent = [await browser.post(FORM, data=kept) for _ in range(2)]
        assert [each.status_code for each in sent] == [303, 303]
        assert sent[0].headers["location"] == sent[1].headers["location"]
