"""Calls about credentials (wire 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgworker.client.paths import agent_path, segment
from cgworker.wire.converter import structure_answer
from cgworker.wire.credentials import (
    Credentials,
    CredentialSummary,
    IssueCredential,
    IssuedCredential,
    RevokedCredential,
)
from cgworker.wire.refs import AgentRef

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


class CredentialCalls:
    """Calls about credentials, as `kernel.credentials`; see `KernelClient` for what they raise."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def issue(self, agent: AgentRef, request: IssueCredential | None = None) -> IssuedCredential:
        """Issue a credential; this needs the grant `agent.credential.issue.any`, even for the agent itself.

        Args:
            agent: the agent that gets the credential.
            request: when the credential expires; None means never.

        Returns:
            The credential with its token, which cannot be read again.

        Raises:
            ConflictError: the calling agent does not hold the grant.
        """
        answer = await self._kernel.send(
            "POST", agent_path(agent, "/credentials:issue"), body=request or IssueCredential()
        )
        return structure_answer(IssuedCredential, answer.body)

    async def revoke(self, agent: AgentRef, credential_id: str) -> CredentialSummary:
        """Revoke a credential; that of another agent needs the grant `agent.credential.revoke.any`.

        Args:
            agent: the agent that holds the credential.
            credential_id: the credential.

        Returns:
            The credential as revoked.

        Raises:
            ConflictError: the calling agent does not hold the grant.
            NotFoundError: there is no such credential.
        """
        path = agent_path(agent, f"/credentials/{segment(credential_id)}:revoke")
        answer = await self._kernel.send("POST", path, body={})
        return structure_answer(RevokedCredential, answer.body).credential

    async def all_of(self, agent: AgentRef) -> tuple[CredentialSummary, ...]:
        """Return all credentials of the agent, including revoked ones.

        Args:
            agent: the agent.
        """
        answer = await self._kernel.send("GET", agent_path(agent, "/credentials"))
        return structure_answer(Credentials, answer.body).credentials
