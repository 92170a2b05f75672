"""Calls about claims (wire 6.4, differences 4, 7, 8, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from cgworker.client.paths import agent_path, project_path
from cgworker.client.transport import REPRESENTED
from cgworker.wire.claims import (
    ClaimedTurn,
    ClaimItem,
    ClaimMany,
    ClaimNext,
    Reconciled,
    ReconcileExpired,
    Renewal,
    RenewClaim,
    RenewItem,
    RenewMany,
)
from cgworker.wire.converter import structure_answer
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.wire.turns import ItemAnswers

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


@frozen
class ClaimAnswer:
    """The answer to a claim request.

    Attributes:
        claimed: the claim, or None if there was no work.
        waited: True if the kernel waited for work as asked (difference 7).
    """

    claimed: ClaimedTurn | None
    waited: bool


class ClaimCalls:
    """Calls about claims, as `kernel.claims`; see `KernelClient` for what they raise."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def claim(
        self,
        agent: AgentRef,
        *,
        wait_seconds: float = 0,
        idempotency_key: str | None = None,
        meta: Meta | None = None,
    ) -> ClaimAnswer:
        """Claim the agent's oldest queued turn, with its context if the kernel includes it (difference 8).

        Args:
            agent: the calling agent.
            wait_seconds: how long the kernel may wait for work; the reference's kernel answers at once.
            idempotency_key: repeating a request with the same key claims the same turn, with a new token
                (difference 4; the reference's kernel ignores it).
            meta: annotations for the ledger event.

        Raises:
            KernelRefused: the agent may not claim, for instance because it is disabled.
        """
        headers = dict(REPRESENTED)
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        answer = await self._kernel.send(
            "POST",
            agent_path(agent, "/claims:claim"),
            body=ClaimNext(agent=agent, meta=meta),
            headers=headers,
            wait_seconds=wait_seconds,
        )
        claimed = None if answer.body is None else structure_answer(ClaimedTurn, answer.body)
        return ClaimAnswer(claimed, answer.waited)

    async def renew(self, claim: ClaimToken) -> Renewal:
        """Extend the lease of a claim.

        Args:
            claim: the claim.

        Returns:
            When the lease ends now, and when to renew it next.

        Raises:
            FencingError: the lease has ended, or the turn is claimed anew.
        """
        path = project_path(claim.project_id, "/claims:renew")
        return structure_answer(
            Renewal, (await self._kernel.send("POST", path, body=RenewClaim(claim=claim))).body
        )

    async def reconcile_expired(self, agent: AgentRef) -> Reconciled:
        """Return the agent's turns whose lease has ended to the queue.

        Args:
            agent: the calling agent.

        Returns:
            How many turns were examined, and how many were returned.
        """
        path = project_path(agent.project_id, "/claims:reconcile-expired")
        answer = await self._kernel.send("POST", path, body=ReconcileExpired(agent=agent))
        return structure_answer(Reconciled, answer.body)

    async def claim_many(
        self, project_id: str, items: tuple[ClaimItem, ...], *, wait_seconds: float = 0
    ) -> ItemAnswers:
        """Claim turns for many agents in one request (difference 9).

        Args:
            project_id: the project of all the agents.
            items: the agents, each with its credential and how many turns to claim.
            wait_seconds: how long the kernel may wait until there is work for at least one item.

        Returns:
            One answer per item, by index.

        Raises:
            NotFoundError: from the reference's kernel, which does not have this route.
        """
        path = project_path(project_id, "/claims:claim-many")
        body = ClaimMany(items=items)
        answer = await self._kernel.send(
            "POST", path, body=body, headers=REPRESENTED, wait_seconds=wait_seconds
        )
        return structure_answer(ItemAnswers, answer.body)

    async def renew_many(self, project_id: str, items: tuple[RenewItem, ...]) -> ItemAnswers:
        """Renew many claims in one request (difference 9).

        Args:
            project_id: the project of all the claims.
            items: the claims, each with its agent's credential.

        Returns:
            One answer per item, by index.

        Raises:
            NotFoundError: from the reference's kernel, which does not have this route.
        """
        path = project_path(project_id, "/claims:renew-many")
        return structure_answer(
            ItemAnswers, (await self._kernel.send("POST", path, body=RenewMany(items=items))).body
        )
