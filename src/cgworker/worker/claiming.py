"""Asking for work, through outages, until there is some."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.client.backoff import Backoff
from cgworker.client.claims import ClaimAnswer
from cgworker.errors import CommonGroundError, KernelTrouble
from cgworker.events import ClaimingFailed, ClaimingRecovered, Listener, emit, logger
from cgworker.lease import monotonic
from cgworker.wire.claims import ClaimedTurn
from cgworker.worker.options import WorkerOptions

T = TypeVar("T")

_FIRST_POLL_SECONDS = 0.05
_RECONCILE_SECONDS = 15.0
_MOST_BACKOFF_SECONDS = 30.0
_SECOND_TRY_SECONDS = 0.1


@frozen
class Found:
    """A claim, and when it was asked for on `lease.monotonic`."""

    claimed: ClaimedTurn
    asked_at: float


class Claimer:
    """Asks for one agent's work.

    Each request carries an Idempotency-Key that is kept until an answer comes: a claim whose answer was
    lost is found by asking again (decision 4).

    Args:
        kernel: the kernel, with the agent's identity.
        options: how long to wait, how often to ask.
        listener: is told when claiming stops working, and when it works again.
    """

    def __init__(self, kernel: KernelClient, options: WorkerOptions, listener: Listener | None) -> None:
        assert kernel.agent is not None  # a worker checks it
        self._kernel = kernel
        self._agent = kernel.agent
        self._options = options
        self._listener = listener
        self._key = uuid.uuid4().hex
        self._waited = False
        self._failing: str | None = None
        self._reconciled_at = monotonic()

    async def once(self, wait_seconds: float) -> Found | None:
        """Ask once; a request without an answer is repeated once, to find a claim whose answer was lost.

        Where there is no work, the agent's expired claims are given back first: a kernel that does not do it
        by itself would otherwise have none for ever (decision 26).

        Raises:
            KernelRefused, KernelTrouble: there is no answer to be had.
        """
        try:
            found = await self._ask(wait_seconds)
        except KernelTrouble:
            await anyio.sleep(_SECOND_TRY_SECONDS)
            found = await self._ask(wait_seconds)
        if found is None and not self._waited and await self.reconcile():
            return await self._ask(wait_seconds)
        return found

    async def next(self, may_claim: Callable[[], bool]) -> Found:
        """Ask until there is work.

        Args:
            may_claim: asked before each request; while it says no, nothing is claimed. What it raises
                gets out.
        """
        idle = Backoff(_FIRST_POLL_SECONDS, self._options.poll_seconds)
        while True:
            while not may_claim():  # noqa: ASYNC110  # nobody tells when a user's `select` changes its mind
                await anyio.sleep(idle.next_seconds())
            found = await self.insist(lambda: self._ask(self._options.wait_seconds))
            if found is not None:
                return found
            if not self._waited:
                await self._reconcile_now_and_then()
                await anyio.sleep(idle.next_seconds())

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it is answered, backing off; failures are told once per change."""
        backoff = Backoff(0.2, _MOST_BACKOFF_SECONDS)
        while True:
            try:
                answer = await call()
            except CommonGroundError as trouble:
                wait = backoff.next_seconds(trouble)
                self._note_failure(str(trouble), wait)
                await anyio.sleep(wait)
            else:
                self._note_success()
                return answer

    async def reconcile(self) -> int:
        """Have this agent's expired claims given back, and say how many were.

        A kernel that does it by itself does not mind.
        """
        try:
            return (await self._kernel.claims.reconcile_expired(self._agent)).reconciled_count
        except CommonGroundError as trouble:
            logger.debug("reconciling expired claims failed: %s", trouble)
            return 0

    async def _ask(self, wait_seconds: float) -> Found | None:
        asked_at = monotonic()
        answer: ClaimAnswer = await self._kernel.claims.claim(
            self._agent, wait_seconds=wait_seconds, idempotency_key=self._key
        )
        self._key = uuid.uuid4().hex
        self._waited = answer.waited
        return Found(answer.claimed, asked_at) if answer.claimed else None

    async def _reconcile_now_and_then(self) -> None:
        """A kernel that cannot wait is the reference's, which does not reconcile by itself."""
        if monotonic() - self._reconciled_at > _RECONCILE_SECONDS:
            self._reconciled_at = monotonic()
            await self.reconcile()

    def _note_failure(self, error: str, wait: float) -> None:
        if self._failing != error:
            self._failing = error
            emit(
                self._listener,
                ClaimingFailed(agent=self._agent, error=error, retry_seconds=round(wait, 1)),
            )

    def _note_success(self) -> None:
        if self._failing is not None:
            self._failing = None
            emit(self._listener, ClaimingRecovered(agent=self._agent))
