"""A running installation, ours or the reference's: its servers, its project, its operator's files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

import httpx
from attrs import evolve, frozen

from cgworker import AgentRef, KernelClient
from cgworker.kernel.server import bind
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.turns import CONVERSATION_KIND
from tests.conformance.peer.software import Home

PROJECT = "cg-demo"
SHORT_LEASE_SECONDS = 3

_START_SECONDS = 60.0


@frozen(kw_only=True)
class Site:
    """A project that is being served.

    Attributes:
        home: the operator's.
        url: the kernel with its admission, and leases of 30 seconds.
        hasty_url: a kernel on the same database with leases of `SHORT_LEASE_SECONDS`.
    """

    home: Path
    url: str
    hasty_url: str

    async def register(
        self, agent_id: str, *, grants: tuple[str, ...] = (), kind: str = CONVERSATION_KIND
    ) -> str:
        """Register an agent as the admission service would; returns its credential."""
        agent = AgentRef(project_id=PROJECT, agent_id=agent_id)
        spec = AgentSpec(agent_id=agent_id, role="tester", capabilities=(kind,), grants=grants)
        async with self.client("admin-service", self.operator_token) as operator:
            await operator.agents.register(PROJECT, spec, Provenance(kind="test", external_ref="peer"))
            return (await operator.credentials.issue(agent, IssueCredential())).token

    def client(self, agent_id: str, token: str, *, url: str | None = None) -> KernelClient:
        """Our client of this kernel."""
        return KernelClient(
            url or self.url, agent=AgentRef(project_id=PROJECT, agent_id=agent_id), token=token
        )

    @property
    def operator_token(self) -> str:
        """The credential of `admin-service`."""
        return self._operator_secret("admin-service.cgac")

    @property
    def admin_bearer(self) -> str:
        """The bearer of the admin API."""
        return self._operator_secret("admin-api-bearer.token")

    def _operator_secret(self, name: str) -> str:
        folder = self.home / ".local/share/commonground/operator/projects" / PROJECT
        return (folder / name).read_text().strip()


@contextmanager
def serving(operator: Home) -> Iterator[Site]:
    """Serve a project, with long leases and with short ones, while the block runs."""
    url, hasty_url = _free_url(), _free_url()
    with ExitStack() as servers:
        local = operator.running("local", "run", "--project-id", PROJECT, "--port", url.rpartition(":")[2])
        _wait_until_ready(url, servers.enter_context(local))
        hasty = evolve(operator, env={**operator.env, **_hasty(hasty_url)})
        _wait_until_ready(hasty_url, servers.enter_context(hasty.running("service", "run")))
        yield Site(home=operator.folder, url=url, hasty_url=hasty_url)


def _hasty(url: str) -> Mapping[str, str]:
    """Settings of a kernel that nobody helps: short leases, and no reaper."""
    return {
        "CG_PORT": url.rpartition(":")[2],
        "CG_CLAIM_TIMEOUT_SECONDS": str(SHORT_LEASE_SECONDS),
        "CG_CLAIM_REAPER_INTERVAL_SECONDS": "0",
    }


def _free_url() -> str:
    with bind("127.0.0.1", 0) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _wait_until_ready(url: str, server: Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(url):
        assert server.poll() is None, f"the server ended with status {server.returncode}"
        assert time.monotonic() < deadline, f"no server at {url} after {_START_SECONDS:g} s"
        time.sleep(0.05)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
