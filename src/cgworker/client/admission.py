"""`AdmissionClient`: calls that make an external runtime an agent (admission 4)."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from cgworker.client.paths import segment
from cgworker.client.plaintext_warning import warn_of_plain_http
from cgworker.client.transport import Answer, Transport
from cgworker.errors import KernelRefused
from cgworker.wire.admission import (
    Admitted,
    CreatedInvite,
    CreateInvite,
    Invite,
    InviteList,
    Joined,
    RedeemInvite,
    RequestCredentialToken,
    RevokedInvite,
)
from cgworker.wire.converter import structure_answer


class AdmissionClient:
    """A client of an admission service.

    Use it as `async with AdmissionClient(...) as admission:`. Every call raises `KernelRefused` when the
    service says no, with the service's own `code` (admission 3); the code is `admission_missing` if the
    server at the address has no admission service. It raises `KernelTrouble` when no usable answer came and
    `AnswerInvalid` when the server does not speak the protocol. Nothing is retried.

    Args:
        base_url: the address of the service, such as `http://127.0.0.1:8000`.
        token: the bearer token of the admin API; `redeem` needs none.
        timeout_seconds: how long to wait for one answer.
        http: an httpx client to use; the caller closes it. By default the client makes its own.
        ca_file: a PEM file with the trusted certificate authorities, as for `KernelClient`.

    Raises:
        UsageError: `base_url` is not an address of a server.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_seconds: float = 10.0,
        http: httpx.AsyncClient | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        self._transport = Transport(base_url, timeout_seconds=timeout_seconds, http=http, ca_file=ca_file)
        self._identity = {"authorization": f"Bearer {token}"} if token is not None else {}
        if token is not None:
            warn_of_plain_http(base_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def request_token(self, project_id: str, request: RequestCredentialToken) -> Admitted:
        """Admit an agent and issue a credential for it (admission 4.1).

        Repeating the call issues another credential.

        Args:
            project_id: the project the agent belongs to.
            request: the agent's id, role and capabilities.

        Returns:
            The agent as admitted, with its credential, which cannot be read again.

        Raises:
            KernelRefused: the caller's fault, for instance a missing or wrong `token`.
        """
        path = _project_path(project_id, "/agent-credential-tokens:request")
        return structure_answer(Admitted, (await self._send("POST", path, request)).body)

    async def create_invite(self, project_id: str, invite: CreateInvite) -> CreatedInvite:
        """Create an invite for an agent (admission 4.2); its code cannot be read again.

        Args:
            project_id: the project the agent will belong to.
            invite: the agent's id and what it may do, and how long and how often the code works.

        Raises:
            KernelRefused: the caller's fault, for instance a missing or wrong `token`.
        """
        path = _project_path(project_id, "/agent-join-invites")
        return structure_answer(CreatedInvite, (await self._send("POST", path, invite)).body)

    async def invites(self, project_id: str) -> tuple[Invite, ...]:
        """Return all invites of the project, newest first (difference 13).

        Args:
            project_id: the project.

        Raises:
            KernelRefused: the caller's fault, for instance a missing or wrong `token`.
        """
        answer = await self._send("GET", _project_path(project_id, "/agent-join-invites"))
        return structure_answer(InviteList, answer.body).invites

    async def revoke_invite(self, project_id: str, invite_id: str) -> Invite:
        """Revoke an invite, so that its code works no longer (difference 13).

        Args:
            project_id: the project.
            invite_id: the invite.

        Returns:
            The invite as revoked.

        Raises:
            KernelRefused: the caller's fault: there is no such invite, or `token` is missing or wrong.
        """
        path = _project_path(project_id, f"/agent-join-invites/{segment(invite_id)}:revoke")
        return structure_answer(RevokedInvite, (await self._send("POST", path, {})).body).invite

    async def redeem(self, join_code: str) -> Joined:
        """Join with the code of an invite (admission 4.3). This needs no token.

        Args:
            join_code: the code.

        Returns:
            The agent as admitted, with its credential, which cannot be read again.

        Raises:
            ForbiddenError: the code is unknown, expired, revoked or used up.
        """
        warn_of_plain_http(self._transport.base_url)
        answer = await self._send("POST", "/admin/v1/agent-joins:redeem", RedeemInvite(join_code=join_code))
        return structure_answer(Joined, answer.body)

    async def _send(self, method: str, path: str, body: object = None) -> Answer:
        try:
            return await self._transport.send(method, path, body=body, headers=self._identity)
        except KernelRefused as refused:
            if refused.status == 404 and not _is_admissions_own(refused):
                message = f"there is no admission service at {self._transport.base_url}"
                raise KernelRefused(message, code="admission_missing", status=404) from refused
            raise


def _is_admissions_own(refused: KernelRefused) -> bool:
    """Return True if an admission service made the refusal: its refusals have a code."""
    try:
        answer = json.loads(refused.answer or "")
    except ValueError:
        return False
    return isinstance(answer, dict) and "code" in answer


def _project_path(project_id: str, rest: str) -> str:
    return f"/admin/v1/projects/{segment(project_id)}{rest}"
