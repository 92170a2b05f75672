"""Claim turns for one agent: poll the kernel, through outages, until there is work."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import anyio
from attrs import field, frozen

from cgworker.client import KernelClient
from cgworker.errors import (
    CommonGroundError,
    CredentialRefused,
    ForbiddenError,
    KernelOverloaded,
    KernelTimedOut,
    KernelTrouble,
    UnauthorizedError,
    UsageError,
)
from cgworker.events import ClaimingFailed, ClaimingRecovered, Listener, emit, logger
from cgworker.lease import monotonic
from cgworker.outcome import hand_back
from cgworker.retrying import Backoff, retry
from cgworker.worker.batching import calls
from cgworker.worker.batching.calls import PrefetchedClaim
from cgworker.worker.batching.keys import new_key
from cgworker.worker.batching.limiter import background_calls
from cgworker.worker.claimed import FetchedClaim, lease_for
from cgworker.worker.options import WorkerOptions
from cgworker.worker.refused_credential import RefusalTimer
from cgworker.worker.settle import suspend_turn

T = TypeVar("T")

_FIRST_POLL_SECONDS = 0.05
_RECONCILE_SECONDS = 15.0
_MAX_BACKOFF_SECONDS = 30.0
_SECOND_TRY_SECONDS = 0.1
_BUSY_SECONDS = 1.0
_REQUEST_NOW_SECONDS = 10.0
_RELEASE_SECONDS = 2.0


@frozen
class _ClaimRequest:
    """A claim request: the most turns to claim, and its Idempotency-Key."""

    limit: int
    key: str = field(factory=new_key)

    def each_key(self) -> Iterator[str]:
        """Iterate over the keys of the single claims (difference 9)."""
        return (self.key if nth == 0 else f"{self.key}#{nth}" for nth in range(self.limit))


class ClaimPoller:
    """Claims the turns of one agent.

    Each request carries an Idempotency-Key, which is kept until an answer comes. A claim whose answer was
    lost is found by repeating the request with the same key (difference 4).

    As long as each request finds work, the poller does not wait: it asks for all free slots in one request
    together with other agents, or it prefetches a claim in the request that settles the turn before.
    Otherwise it long-polls: one request waits at the kernel, which answers as soon as there is a turn.

    Args:
        kernel: the kernel, with the agent's identity.
        options: how long to wait and how often to poll.
        listener: called when claiming begins to fail, and when it works again.
    """

    def __init__(self, kernel: KernelClient, options: WorkerOptions, listener: Listener | None) -> None:
        assert kernel.agent is not None  # a worker checks it
        self._kernel = kernel
        self._agent = kernel.agent
        self._options = options
        self._listener = listener
        self._unanswered: list[_ClaimRequest] = []
        self._is_busy = False
        self._waits: bool | None = None
        self._last_failure: str | None = None
        self._refusal_timer = RefusalTimer(options.refused_seconds)
        self._reconciled_at = monotonic()

    async def once(self, wait_seconds: float) -> FetchedClaim | None:
        """Ask for one turn. An unanswered request is repeated once, to find a claim whose answer was lost.

        If there is no work, the agent's expired claims are reconciled and the request is repeated, since a
        kernel that does not reconcile by itself would never have work again (difference 26).

        Args:
            wait_seconds: how long the kernel may wait for work.

        Returns:
            The claim; None if there is no work.

        Raises:
            KernelRefused: the kernel refused the claim.
            KernelTrouble: no answer came.
        """
        try:
            found = await self._request_and_wait(wait_seconds)
        except KernelTrouble:
            await anyio.sleep(_SECOND_TRY_SECONDS)
            found = await self._request_and_wait(wait_seconds)
        if not found and not self._waits and await self.reconcile():
            found = await self._request_and_wait(wait_seconds)
        return found[0] if found else None

    async def next(self, may_claim: Callable[[], bool], max_count: int) -> Sequence[FetchedClaim]:
        """Ask until there is work. After a cancellation no claim is kept: what was claimed is released.

        Args:
            may_claim: called before each claim; nothing is claimed while it returns False. Its exceptions
                are raised.
            max_count: the most turns to claim.

        Raises:
            CredentialRefused: the kernel has refused the credential for `options.refused_seconds`.
        """
        idle = Backoff(_FIRST_POLL_SECONDS, self._options.poll_seconds)
        while True:
            while not may_claim():  # noqa: ASYNC110  # no event says when a user's `select` changes its mind
                await anyio.sleep(idle.next_seconds())
            found = await self.retry_until_answered(lambda: self._request(may_claim, max_count))
            if found:
                return found
            if not self._waits:
                await self._reconcile_now_and_then()
                await anyio.sleep(idle.next_seconds())

    def prefetch(self) -> PrefetchedClaim | None:
        """Return a claim to go along with a settle request; None unless the last request found work."""
        return PrefetchedClaim() if self._is_busy else None

    def collect(self, prefetch: PrefetchedClaim) -> FetchedClaim | None:
        """Return the claim that was made; None if there was none. A lost answer is asked for again later."""
        if not prefetch.is_answered:
            self._unanswered.append(_ClaimRequest(1, prefetch.key))
            return None
        if prefetch.claimed is None:
            self._is_busy = False
            return None
        return FetchedClaim(prefetch.claimed, prefetch.asked_at, prefetch.answered_at)

    async def release(self, fetched: FetchedClaim) -> None:
        """Release a claim that is not to be worked here, so that another worker can claim the turn.

        If that fails, the turn is queued again when its lease ends.
        """
        claimed = fetched.claimed
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            try:
                await suspend_turn(self._kernel, lease_for(fetched), hand_back())
                await self._kernel.turns.resume(claimed.turn, requested_by=self._agent)
            except CommonGroundError as trouble:
                logger.debug("%s comes back by itself, it could not be given back: %s", claimed.turn, trouble)

    async def release_prefetched(self, prefetch: PrefetchedClaim) -> None:
        """Release the claim that was prefetched, if one was made."""
        if prefetch.is_answered and prefetch.claimed is not None:
            await self.release(FetchedClaim(prefetch.claimed, prefetch.asked_at, prefetch.answered_at))
        elif not prefetch.is_answered and prefetch.asked_at:
            with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
                await self._release_claim_of(prefetch.key)

    async def release_unanswered(self) -> None:
        """Release claims whose answer never came. Call this last: the poller must not be used afterwards.

        The requests are repeated with their keys, which yields the claims that were made.
        """
        self._refusal_timer.end()
        if self._waits is False:  # the kernel does not know keys: a repeat would claim another turn
            return
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            while self._unanswered:
                for key in self._unanswered.pop().each_key():
                    await self._release_claim_of(key)

    async def _release_claim_of(self, key: str) -> None:
        asked_at = monotonic()
        try:
            answer = await self._kernel.claims.claim(self._agent, idempotency_key=key)
        except CommonGroundError as trouble:
            logger.debug("a claim that may have been made comes back by itself: %s", trouble)
        else:
            if answer.claimed is not None:
                await self.release(FetchedClaim(answer.claimed, asked_at, monotonic()))

    async def capacity(self) -> int:
        """Return how many turns the agent may hold, asking until the kernel answers."""

        async def ask() -> int:
            async with background_calls(self._kernel):
                return (await self._kernel.agents.get(self._agent)).capacity

        return await self.retry_until_answered(ask)

    async def retry_until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call, backing off, until it is answered. A failure is reported once, not at every try.

        Args:
            call: makes one request.

        Raises:
            CredentialRefused: the kernel has refused the credential for `options.refused_seconds`.
            UsageError: this program or its surroundings are at fault, and the kernel was not asked.
        """
        backoff = Backoff(0.2, _MAX_BACKOFF_SECONDS)
        answer = await retry(call, on=_is_from_kernel, backoff=backoff, wait=self._wait_after)
        self._report_success()
        return answer

    def _wait_after(self, trouble: Exception, seconds: float) -> float:
        """Report the failure, and return the seconds until the next try."""
        is_refused = isinstance(trouble, UnauthorizedError | ForbiddenError)
        left = self._refusal_timer.left_after(is_refused=is_refused)
        if left <= 0:
            raise CredentialRefused(
                f"the kernel has refused the credential of {self._agent} for"
                f" {self._options.refused_seconds:g} s: {trouble}"
            ) from trouble
        if isinstance(trouble, KernelOverloaded) and (said := trouble.retry_after_seconds):
            # It is up, and says when to come again, as during a failover: be there when the database is back.
            seconds = min(seconds, said * random.uniform(1.0, 2.0))
        seconds = min(seconds, _MAX_BACKOFF_SECONDS, left)
        self._report_failure(str(trouble), seconds, is_refused=is_refused)
        return seconds

    async def reconcile(self) -> int:
        """Have the kernel release this agent's expired claims, and return how many there were.

        Needed only at a kernel that does not do it by itself; harmless at others. A failure counts as 0.
        """
        try:
            async with background_calls(self._kernel):
                return (await self._kernel.claims.reconcile_expired(self._agent)).reconciled_count
        except CommonGroundError as trouble:
            logger.debug("reconciling expired claims failed: %s", trouble)
            return 0

    # ------------------------------------------------------------ one request

    async def _request(self, may_claim: Callable[[], bool], max_count: int) -> Sequence[FetchedClaim]:
        """Make one claim request. `may_claim` has allowed one turn, and is called for each further one."""
        if self._unanswered and (lost := self._unanswered[0]).limit > 1:
            found = await self._request_now(lost.limit)
        elif self._is_busy:
            found = await self._request_now(_count_allowed(may_claim, max_count))
        else:
            found = ()
        return found or await self._request_and_wait(self._options.wait_seconds)

    async def _request_now(self, limit: int) -> Sequence[FetchedClaim]:
        """Claim what is queued now, in one request with other agents, shielded since the answer comes soon.

        A repeat has no time limit: the first answer may have been too large for a slow connection.
        """
        is_repeat = bool(self._unanswered)
        request, asked_at = self._current_request(limit), monotonic()
        with anyio.move_on_after(math.inf if is_repeat else _REQUEST_NOW_SECONDS, shield=not is_repeat):
            claimed = await calls.claim(
                self._kernel, self._agent, request.limit, key=request.key, own_request=is_repeat
            )
            self._unanswered.remove(request)
            self._is_busy = bool(claimed)
            answered_at = monotonic()
            return [FetchedClaim(each, asked_at, answered_at) for each in claimed]
        raise KernelTimedOut(f"no answer from {self._kernel.base_url} within {_REQUEST_NOW_SECONDS:g} s")

    async def _request_and_wait(self, wait_seconds: float) -> Sequence[FetchedClaim]:
        """Claim one turn, waiting for it at the kernel."""
        request, asked_at = self._current_request(1), monotonic()
        try:
            answer = await self._kernel.claims.claim(
                self._agent, wait_seconds=wait_seconds, idempotency_key=request.key
            )
        except anyio.get_cancelled_exc_class():
            await self.release_unanswered()
            raise
        self._unanswered.remove(request)
        self._waits = answer.waited
        if answer.claimed is None:
            return ()
        self._is_busy = monotonic() - asked_at < _BUSY_SECONDS
        return [FetchedClaim(answer.claimed, asked_at, monotonic())]

    def _current_request(self, limit: int) -> _ClaimRequest:
        """Return the request to make now: the unanswered one again, or a new one."""
        if not self._unanswered:
            self._unanswered.append(_ClaimRequest(limit))
        return self._unanswered[0]

    async def _reconcile_now_and_then(self) -> None:
        """Reconcile now and then: a kernel without long polls, the reference's, does not do it itself."""
        if monotonic() - self._reconciled_at > _RECONCILE_SECONDS:
            self._reconciled_at = monotonic()
            await self.reconcile()

    def _report_failure(self, error: str, wait: float, *, is_refused: bool) -> None:
        if self._last_failure != error:
            self._last_failure = error
            emit(
                self._listener,
                ClaimingFailed(
                    agent=self._agent, error=error, retry_seconds=round(wait, 1), refused=is_refused
                ),
            )

    def _report_success(self) -> None:
        self._refusal_timer.reset()
        if self._last_failure is not None:
            self._last_failure = None
            emit(self._listener, ClaimingRecovered(agent=self._agent))


def _is_from_kernel(error: Exception) -> bool:
    """Whether a failure came from the kernel or the network, not from this program or its surroundings."""
    return isinstance(error, CommonGroundError) and not isinstance(error, UsageError)


def _count_allowed(may_claim: Callable[[], bool], max_count: int) -> int:
    """Count the turns that may be claimed now, with the one that `may_claim` has just allowed."""
    allowed = 1
    while allowed < max_count and may_claim():
        allowed += 1
    return allowed
