"""`AdmissionClient`: how an external runtime becomes an agent (admission 4)."""

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
    """An admission service.

    Args:
        base_url: where it listens.
        token: the admin API bearer; redeeming a code needs none.
        timeout_seconds: how long to wait for one answer.
        http: an httpx client to use instead of an own one; it is then not closed here.
        ca_file: the certificates of the authorities that are trusted, as for `KernelClient`.

    Refusals are `KernelRefused` with the service's own `code` (admission 3); `admission_missing` where the
    address is that of a kernel, or of anything else that has no such service.
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
        """Admit an agent and issue its credential; a repeat issues another credential."""
        path = _project_path(project_id, "/agent-credential-tokens:request")
        return structure_answer(Admitted, (await self._send("POST", path, request)).body)

    async def create_invite(self, project_id: str, invite: CreateInvite) -> CreatedInvite:
        """Invite an agent; the code is shown this once."""
        path = _project_path(project_id, "/agent-join-invites")
        return structure_answer(CreatedInvite, (await self._send("POST", path, invite)).body)

    async def invites(self, project_id: str) -> tuple[Invite, ...]:
        """All invites of the project (difference 13)."""
        answer = await self._send("GET", _project_path(project_id, "/agent-join-invites"))
        return structure_answer(InviteList, answer.body).invites

    async def revoke_invite(self, project_id: str, invite_id: str) -> Invite:
        """Make an invite's code useless (difference 13)."""
        path = _project_path(project_id, f"/agent-join-invites/{segment(invite_id)}:revoke")
        return structure_answer(RevokedInvite, (await self._send("POST", path, {})).body).invite

    async def redeem(self, join_code: str) -> Joined:
        """Join with a code."""
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
    """Whether an admission service said it: its refusals have a code."""
    try:
        answer = json.loads(refused.answer or "")
    except ValueError:
        return False
    return isinstance(answer, dict) and "code" in answer


def _project_path(project_id: str, rest: str) -> str:
    return f"/admin/v1/projects/{segment(project_id)}{rest}"
