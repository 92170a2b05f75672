"""`KernelClient`: all calls of an agent to a kernel, grouped by noun."""

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
from cgworker.client.schedules import ScheduleCalls
from cgworker.client.token import Token
from cgworker.client.transport import Answer, Transport
from cgworker.client.turns import TurnCalls
from cgworker.errors import ForbiddenError, UnauthorizedError
from cgworker.wire.refs import AgentRef


class KernelClient:
    """A client of a kernel that acts as one agent.

    Use it as `async with KernelClient(...) as kernel:`, or call `aclose()`. Every call raises
    `KernelRefused` when the kernel says no, `KernelTrouble` when no usable answer came and `AnswerInvalid`
    when the server does not speak the protocol. Nothing is retried.

    Args:
        base_url: the address of the kernel, such as `http://127.0.0.1:8000`.
        agent: the calling agent; None sends no identity, which only the health routes accept.
        token: the agent's credential (`cgac_...`).
        token_file: a file with the credential (mode 0600), instead of `token`. It is read again when it
            changes, and when the kernel refuses the token (401, 403); the refused request is then sent once
            more.
        timeout_seconds: how long to wait for one answer; the time of a long poll comes on top.
        http: an httpx client to use; the caller closes it. By default the client makes its own.
        ca_file: a PEM file with the trusted certificate authorities; by default those of SSL_CERT_FILE or
            SSL_CERT_DIR, else the public ones. Proxies are those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
            NO_PROXY.

    Attributes:
        turns: calls about turns.
        claims: calls about claims.
        agents: calls about agents.
        credentials: calls about credentials.
        reports: calls about work-memory reports.
        schedules: calls about schedules.
        projections: lists of agents, offers, turns and events.
        base_url: the address of the kernel, without a trailing slash.
        agent: the calling agent; None if it sends no identity.

    Raises:
        UsageError: `base_url` is not an address of a server.
        ProfileError: other users may read `token_file`.
        OSError: `token_file` cannot be read.
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
        self.base_url: str = self._transport.base_url
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
        self.schedules: ScheduleCalls = ScheduleCalls(self)
        self.projections: ProjectionCalls = ProjectionCalls(self)

    @property
    def route(self) -> Hashable:
        """The way to the kernel. Clients with equal routes may send each other's calls."""
        return self.base_url, self._http, self._transport.ca_file

    @property
    def token(self) -> str | None:
        """The credential; None if it sends none."""
        return self._token.text

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credential and those it replaced, to be kept out of logs and child processes."""
        return self._token.secrets

    def with_own_connections(self) -> KernelClient:
        """Return a client for the same agent and kernel that does not share this client's connections.

        An httpx client that was given as `http` is still shared.
        """
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
        """Close the connections, unless they belong to an httpx client that was given as `http`."""
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
        """Send a request with this agent's identity; all calls by noun use this.

        Args:
            method: the HTTP method.
            path: the path, with its segments encoded.
            body: a wire type or JSON value; None sends no body.
            query: the query parameters; those that are None are left out.
            headers: more headers.
            wait_seconds: how long the kernel may wait for news (`Prefer: wait`); 0 does not ask it to.

        Raises:
            KernelRefused: the kernel said no.
            KernelTrouble: no usable answer came; the request may or may not have been carried out.
            AnswerInvalid: the answer is not JSON, or a redirect.
            UsageError: the caller's fault: a header cannot be sent, or the environment names a proxy or
                certificate authorities that cannot be used. Nothing was sent.
        """

        async def send(token: str | None) -> Answer:
            return await self._transport.send(
                method,
                path,
                body=body,
                query=query,
                headers={**_identity_headers(self.agent, token), **(headers or {})},
                wait_seconds=wait_seconds,
            )

        sent = self._token.text
        try:
            return await send(sent)
        except (UnauthorizedError, ForbiddenError):  # the request was not carried out
            if self._token.text == sent and not self._token.read_again():
                raise
        return await send(self._token.text)

    async def readyz(self) -> Mapping[str, Any]:
        """Return the kernel's report of its own state.

        Raises:
            KernelOverloaded: the kernel's database is away.
        """
        answer: Mapping[str, Any] = (await self.send("GET", "/readyz")).body
        return answer


def _identity_headers(agent: AgentRef | None, token: str | None) -> dict[str, str]:
    headers = {}
    if agent is not None:
        headers = {"x-cg-project-id": agent.project_id, "x-cg-agent-id": agent.agent_id}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers
