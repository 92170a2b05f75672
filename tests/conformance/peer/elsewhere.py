"""An agent at the reference's server, whose worker is ours."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Unpack

import anyio
import pytest
from attrs import frozen

from cgworker import AgentRef, KernelClient, TurnRef, WorkerOptions
from cgworker.wire.order import Order
from cgworker.wire.turns import Dispatch, RootRequest, TurnSnapshot
from tests.conformance.peer.proxy import Proxy, proxy_to
from tests.conformance.peer.site import PROJECT, Site

OPTIONS = WorkerOptions(poll_seconds=0.2, interrupt_seconds=2.0)


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def proxy(their_site: Site) -> Iterator[Proxy]:
    """The way to the reference's kernel with short leases on which answers can be lost."""
    with proxy_to(their_site.hasty_url) as proxy:
        yield proxy


@frozen
class Desk:
    """An agent of the test's own, seen from its worker and from who asks it."""

    kernel: KernelClient
    asker: KernelClient
    helper: AgentRef
    helper_kernel: KernelClient
    proxy: Proxy

    @property
    def agent(self) -> AgentRef:
        """Who works."""
        assert self.kernel.agent is not None
        return self.kernel.agent

    def dispatching(self, input: object, **order: Unpack[Order]) -> Dispatch:
        """Describe a turn for the desk."""
        assert self.asker.agent is not None
        key = secrets.token_hex(8)
        return Dispatch(
            requested_by=self.asker.agent,
            target_agent=self.agent,
            input=input,
            dispatch_key=key,
            authority=RootRequest(request_id=key),
            **order,
        )

    async def dispatch(self, input: object) -> TurnRef:
        """Give the desk a turn."""
        return await self.asker.turns.dispatch(self.dispatching(input))

    async def state(self, turn: TurnRef, state: str, *, seconds: float = 60) -> TurnSnapshot:
        """The turn, once it is in this state; this server can only be asked again and again."""
        with anyio.fail_after(seconds):
            while (found := await self.asker.turns.get(turn)).state != state:  # noqa: ASYNC110  # it cannot tell
                await anyio.sleep(0.05)
        return found

    async def closed(self, turn: TurnRef) -> TurnSnapshot:
        """The turn, once it is closed."""
        return await self.state(turn, "closed")


@pytest.fixture
async def desk(their_site: Site, proxy: Proxy) -> AsyncIterator[Desk]:
    """A worker's agent behind the proxy, and its asker at the server itself."""
    names = {name: f"{name}-{secrets.token_hex(3)}" for name in ("desk", "asker", "helper")}
    tokens = {name: await their_site.register(agent_id) for name, agent_id in names.items()}
    proxy.faults.clear()
    async with (
        their_site.client(names["desk"], tokens["desk"], url=proxy.url) as kernel,
        their_site.client(names["asker"], tokens["asker"], url=their_site.hasty_url) as asker,
        their_site.client(names["helper"], tokens["helper"], url=their_site.hasty_url) as helper_kernel,
    ):
        helper = AgentRef(project_id=PROJECT, agent_id=names["helper"])
        yield Desk(kernel, asker, helper, helper_kernel, proxy)
