"""Asking for work, through outages, until there is some."""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import anyio
from attrs import field, frozen

from cgworker.client import KernelClient
from cgworker.client.backoff import Backoff
from cgworker.errors import (
    CommonGroundError,
    CredentialRefused,
    ForbiddenError,
    KernelTimedOut,
    KernelTrouble,
    UnauthorizedError,
    UsageError,
)
from cgworker.events import ClaimingFailed, ClaimingRecovered, Listener, emit, logger
from cgworker.lease import monotonic
from cgworker.outcome import hand_back
from cgworker.worker.batching import calls
from cgworker.worker.batching.calls import PrefetchedClaim
from cgworker.worker.batching.limiter import background_calls
from cgworker.worker.claimed import FetchedClaim, lease_for
from cgworker.worker.options import WorkerOptions
from cgworker.worker.refused_credential import Patience
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
    """What was request for: how many turns at max_count, under which Idempotency-Key."""

    limit: int
    key: str = field(factory=lambda: uuid.uuid4().hex)

    def each_key(self) -> Iterator[str]:
        """The key of each of the claims (difference 9)."""
        return (self.key if nth == 0 else f"{self.key}#{nth}" for nth in range(self.limit))


class ClaimPoller:
    """Asks for one agent's work.

    Each request carries an Idempotency-Key that is kept until an answer comes: a claim whose answer was
    lost is found by asking again (difference 4).

    As long as there is work whenever it is request for, it is request for without waiting, for all free slots
    and in one request with other agents, or prefetch, in the request that settles the turn before. Else one
    request waits at the kernel, which answers as soon as there is a turn.

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
        self._unanswered: list[_ClaimRequest] = []
        self._is_busy = False
        self._waits: bool | None = None
        self._last_failure: str | None = None
        self._patience = Patience(options.refused_seconds)
        self._reconciled_at = monotonic()

    async def once(self, wait_seconds: float) -> FetchedClaim | None:
        """Ask once; a request without an answer is repeated once, to find a claim whose answer was lost.

        Where there is no work, the agent's expired claims are given back first: a kernel that does not do it
        by itself would otherwise have none for ever (difference 26).

        Raises:
            KernelRefused, KernelTrouble: there is no answer to be had.
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
        """Ask until there is work. Being cancelled keeps no turn: what is claimed then is given back.

        Args:
            may_claim: request before each claim; while it says no, nothing is claimed. What it raises
                gets out.
            max_count: how many turns at max_count.
        """
        idle = Backoff(_FIRST_POLL_SECONDS, self._options.poll_seconds)
        while True:
            while not may_claim():  # noqa: ASYNC110  # nobody tells when a user's `select` changes its mind
                await anyio.sleep(idle.next_seconds())
            found = await self.retry_until_answered(lambda: self._request(may_claim, max_count))
            if found:
                return found
            if not self._waits:
                await self._reconcile_now_and_then()
                await anyio.sleep(idle.next_seconds())

    def prefetch(self) -> PrefetchedClaim | None:
        """The next claim, to be made when a turn is settled; None if nobody knows that there is work."""
        return PrefetchedClaim() if self._is_busy else None

    def collect(self, prefetch: PrefetchedClaim) -> FetchedClaim | None:
        """What came of it. One whose answer was lost is request for again."""
        if not prefetch.is_answered:
            self._unanswered.append(_ClaimRequest(1, prefetch.key))
            return None
        if prefetch.claimed is None:
            self._is_busy = False
            return None
        return FetchedClaim(prefetch.claimed, prefetch.asked_at, monotonic())

    async def release(self, found: FetchedClaim) -> None:
        """It was claimed, and is not to be worked here: whoever of the agent's workers is there may take it.

        If that fails it comes back when its lease ends.
        """
        claimed = found.claimed
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            try:
                await suspend_turn(self._kernel, lease_for(claimed, found.asked_at), hand_back())
                await self._kernel.turns.resume(claimed.turn, requested_by=self._agent)
            except CommonGroundError as trouble:
                logger.debug("%s comes back by itself, it could not be given back: %s", claimed.turn, trouble)

    async def release_prefetched(self, prefetch: PrefetchedClaim) -> None:
        """What came of it, as `release`."""
        if prefetch.is_answered and prefetch.claimed is not None:
            await self.release(FetchedClaim(prefetch.claimed, prefetch.asked_at, monotonic()))
        elif not prefetch.is_answered and prefetch.asked_at:
            with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
                await self._release_claim_of(prefetch.key)

    async def release_unanswered(self) -> None:
        """Nobody waits any more for what was not answered: the last to be request of a claimer.

        A claim that was in it is given again by its key.
        """
        self._patience.end()
        if self._waits is False:  # the kernel knows no keys: it would give another turn
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
        """How many turns the agent may hold; request until it is answered."""

        async def ask() -> int:
            async with background_calls(self._kernel):
                return (await self._kernel.agents.get(self._agent)).capacity

        return await self.retry_until_answered(ask)

    async def retry_until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it is answered, backing off; failures are told once per change."""
        backoff = Backoff(0.2, _MAX_BACKOFF_SECONDS)
        while True:
            try:
                answer = await call()
            except UsageError:  # of our own program or its surroundings; the kernel was not request
                raise
            except CommonGroundError as trouble:
                is_refused = isinstance(trouble, UnauthorizedError | ForbiddenError)
                left = self._patience.left_after(is_refused=is_refused)
                if left <= 0:
                    raise CredentialRefused(
                        f"the kernel has refused the credential of {self._agent} for"
                        f" {self._options.refused_seconds:g} s: {trouble}"
                    ) from trouble
                wait = min(backoff.next_seconds(trouble), _MAX_BACKOFF_SECONDS, left)
                self._report_failure(str(trouble), wait, is_refused=is_refused)
                await anyio.sleep(wait)
            else:
                self._report_success()
                return answer

    async def reconcile(self) -> int:
        """Have this agent's expired claims given back, and say how many were.

        A kernel that does it by itself does not mind.
        """
        try:
            async with background_calls(self._kernel):
                return (await self._kernel.claims.reconcile_expired(self._agent)).reconciled_count
        except CommonGroundError as trouble:
            logger.debug("reconciling expired claims failed: %s", trouble)
            return 0

    # ------------------------------------------------------------ one request

    async def _request(self, may_claim: Callable[[], bool], max_count: int) -> Sequence[FetchedClaim]:
        """One request for one turn that is allowed already, or for several that are."""
        if self._unanswered and (lost := self._unanswered[0]).limit > 1:
            found = await self._request_now(lost.limit)
        elif self._is_busy:
            found = await self._request_now(_count_allowed(may_claim, max_count))
        else:
            found = ()
        return found or await self._request_and_wait(self._options.wait_seconds)

    async def _request_now(self, limit: int) -> Sequence[FetchedClaim]:
        """For what there is now, with others that ask; not to be cancelled, since the answer is near.

        A repeat takes as long as it may: the first answer may have been too large for a slow line.
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
        """For one turn, which may be a while in coming."""
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
        """What is request for now: the same again, as long as there is no answer."""
        if not self._unanswered:
            self._unanswered.append(_ClaimRequest(limit))
        return self._unanswered[0]

    async def _reconcile_now_and_then(self) -> None:
        """A kernel that cannot wait is the reference's, which does not reconcile by itself."""
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
        self._patience.reset()
        if self._last_failure is not None:
            self._last_failure = None
            emit(self._listener, ClaimingRecovered(agent=self._agent))


def _count_allowed(may_claim: Callable[[], bool], max_count: int) -> int:
    """How many claims are allowed, the one that was request about already among them."""
    allowed = 1
    while allowed < max_count and may_claim():
        allowed += 1
    return allowed
