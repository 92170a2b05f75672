"""`KernelClient`: everything an agent can ask of a kernel, by noun."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from cgworker.client.agents import AgentCalls
from cgworker.client.claims import ClaimCalls
from cgworker.client.credentials import CredentialCalls
from cgworker.client.plaintext_warning import warn_of_plain_http
from cgworker.client.projections import ProjectionCalls
from cgworker.client.reports import ReportCalls
from cgworker.client.token import Token
from cgworker.client.transport import Answer, Transport
from cgworker.client.turns import TurnCalls
from cgworker.errors import ForbiddenError, UnauthorizedError
from cgworker.wire.refs import AgentRef


class KernelClient:
    """A kernel, spoken to as one agent.

    Use it as `async with KernelClient(...) as kernel:`, or call `aclose()`.

    Args:
        base_url: where the kernel listens.
        agent: who calls; None sends no identity, which only the health routes accept.
        token: the agent's credential (`cgac_...`).
        token_file: the file it stands in (0600). It is read again when it changes, and when the kernel
            refuses the token (401, 403); a request that was refused is then made once more.
        timeout_seconds: how long to wait for one answer, long polls apart.
        http: an httpx client to use instead of an own one; it is then not closed here.
        ca_file: the certificates of the authorities that are trusted, one PEM file; by default those of
            SSL_CERT_FILE or SSL_CERT_DIR, else the public ones. Proxies are those of HTTP_PROXY,
            HTTPS_PROXY, ALL_PROXY and NO_PROXY.

    Every call raises `KernelRefused` when the kernel says no, `KernelTrouble` when no usable answer came
    and `AnswerInvalid` when what answered does not speak the protocol. Nothing is retried.
    """

    def __init__(
        self,
        base_url: str,
        *,
        agent: AgentRef | None = None,
        token: str | None = None,
        timeout_seconds: float = 5.0,
        http: httpx.AsyncClient | None = None,
        ca_file: str | Path | None = None,
        token_file: Path | None = None,
    ) -> None:
        self._transport = Transport(base_url, timeout_seconds=timeout_seconds, http=http, ca_file=ca_file)
        self.agent = agent
        self._token = Token(token, token_file)
        self._http = http
        if token is not None or token_file is not None:
            warn_of_plain_http(base_url)
        self.turns: TurnCalls = TurnCalls(self)
        self.claims: ClaimCalls = ClaimCalls(self)
        self.agents: AgentCalls = AgentCalls(self)
        self.credentials: CredentialCalls = CredentialCalls(self)
        self.reports: ReportCalls = ReportCalls(self)
        self.projections: ProjectionCalls = ProjectionCalls(self)

    @property
    def base_url(self) -> str:
        """Where the kernel listens, without a trailing slash."""
        return self._transport.base_url

    @property
    def route(self) -> Hashable:
        """How the kernel is reached: clients that have this in common could send each other's calls."""
        return self.base_url, self._http, self._transport.ca_file

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credential, for who has to keep it out of logs and children; then those it replaced."""
        return self._token.secrets

    def with_own_connections(self) -> KernelClient:
        """The same agent at the same kernel on connections of their own, unless they were given."""
        same = KernelClient(
            self.base_url,
            agent=self.agent,
            timeout_seconds=self._transport.timeout_seconds,
            http=self._http,
            ca_file=self._transport.ca_file,
        )
        same._token = self._token
        return same

    def __repr__(self) -> str:
        return f"KernelClient({self.base_url!r}, agent={self.agent})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are this client's own."""
        await self._transport.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0,
    ) -> Answer:
        """Any request, with this agent's identity; the calls by noun are made of it."""

        async def send() -> Answer:
            return await self._transport.send(
                method,
                path,
                body=body,
                query=query,
                headers={**_identity_headers(self.agent, self._token.text), **(headers or {})},
                wait_seconds=wait_seconds,
            )

        sent = self._token.text
        try:
            return await send()
        except (UnauthorizedError, ForbiddenError):  # it was not carried out
            if self._token.text == sent and not self._token.read_again():
                raise
        return await send()

    async def readyz(self) -> Mapping[str, Any]:
        """What the kernel says of itself; raises `KernelOverloaded` while its database is away."""
        answer: Mapping[str, Any] = (await self.send("GET", "/readyz")).body
        return answer


def _identity_headers(agent: AgentRef | None, token: str | None) -> dict[str, str]:
    headers = {}
    if agent is not None:
        headers = {"x-cg-project-id": agent.project_id, "x-cg-agent-id": agent.agent_id}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers
