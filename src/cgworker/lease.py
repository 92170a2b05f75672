"""The lease of a claim as its holder counts it, and the reasons why a handler is interrupted.

A lease is counted on a monotonic clock, from before the request that got it, so it never ends later here than
at the kernel. Work on the turn ends a margin before that. `renewal.py` renews leases.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

from attrs import define, field, frozen

from cgworker.errors import FencingError, KernelTrouble, LeaseLost
from cgworker.retrying import Backoff, retry
from cgworker.wire.refs import ClaimToken

Clock = Callable[[], float]
T = TypeVar("T")

RENEW_FRACTION = 1 / 3
"""The part of a lease after which it is renewed at the latest (difference 19)."""

_STEP_OFFSET = random.random()  # so that processes do not renew in step with each other
_MIN_STEPS = 4  # in an interval
_MAX_IN_A_STEP = 200

_MARGIN_FRACTION = 0.1
_MAX_MARGIN_SECONDS = 2.0
_UNKNOWN_LENGTH_SECONDS = 10.0
_MIN_WAIT_SECONDS = 0.1


def monotonic() -> float:
    """Return seconds on a clock that never goes back and, where possible, counts time of suspend too."""
    return _READ_CLOCK()


def _best_clock() -> Clock:
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # there CLOCK_MONOTONIC goes on during sleep, and time.monotonic() does not
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


_READ_CLOCK = _best_clock()


# ---------------------------------------------------------------- interruption


class Reason(StrEnum):
    """Why a handler is interrupted; Python, stop files, logs and records use the same words."""

    STOP = "stop"
    """A stop of the turn was requested."""
    LEASE_LOST = "lease_lost"
    """The claim no longer belongs to this worker; nothing may be written."""
    SHUTDOWN = "shutdown"
    """The worker shuts down and its grace period is over."""
    DEADLINE = "deadline"
    """The handler's time limit is over."""
    PARENT_CLOSED = "parent_closed"
    """The parent turn has ended, and the worker was set to follow it."""


@frozen
class Interruption:
    """The interruption of a handler.

    Attributes:
        reason: why.
        note: why, for people.
        grace_seconds: how long the handler has to end by itself.
    """

    reason: Reason
    note: str | None = None
    grace_seconds: float = 0.0


class Interrupted(BaseException):
    """Raised by `turn.check()` to end a handler in a thread; no Exception, so that handlers let it pass."""

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(interruption.reason)
        self.interruption = interruption


# ---------------------------------------------------------------- the lease


@define
class Lease:
    """The time for which a claim is valid.

    Attributes:
        claim: the claim.
        length_seconds: the full length of the lease; None while unknown, as at the reference's kernel until
            the first renewal.
        asked_at: when the request that got or renewed it was about to be sent, on `clock`.
        clock: returns seconds on a monotonic clock.
        lost: called with the reason in words when a call under the lease shows that it is over.
    """

    claim: ClaimToken
    asked_at: float
    length_seconds: float | None = None
    clock: Clock = monotonic
    lost: Callable[[str], None] = field(init=False, default=lambda _: None, repr=False, eq=False)
    _remaining: float = field(init=False)
    _followers: list[Callable[[Lease], None]] = field(init=False, factory=list, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._remaining = _UNKNOWN_LENGTH_SECONDS if self.length_seconds is None else self.length_seconds

    @property
    def ends_at(self) -> float:
        """When it ends, on `clock`; never later than at the kernel."""
        return self.asked_at + self._remaining

    @property
    def margin_seconds(self) -> float:
        """How many seconds before its end work is ended, so that the work is over in time."""
        return min(_MAX_MARGIN_SECONDS, self._remaining * _MARGIN_FRACTION)

    @property
    def fence_at(self) -> float:
        """When work on the turn must begin to end."""
        return self.asked_at + self._remaining - min(_MAX_MARGIN_SECONDS, self._remaining * _MARGIN_FRACTION)

    @property
    def seconds_left(self) -> float:
        """The seconds until it ends; negative afterwards."""
        return self.ends_at - self.clock()

    def bounded(self, wait_seconds: float) -> float:
        """Limit a wait to a third of the time left before the fence, so that more tries can follow."""
        return min(wait_seconds, max((self.fence_at - self.clock()) / 3, _MIN_WAIT_SECONDS))

    def renew_at(self, fraction: float, max_seconds: float | None = None, *, in_step: int = 0) -> float:
        """Return when to renew the lease, on `clock`; at once while its length is unknown.

        Args:
            fraction: renew after this part of the lease.
            max_seconds: renew after so many seconds at the latest; None is no such limit.
            in_step: how many leases this process holds. The renewal is moved forward, by a quarter of the
                interval at most, to an instant that several leases share, so that their renewals go in one
                request. With thousands of leases there are more such instants, since a very large request
                would delay the event loop. 0 moves nothing.
        """
        if self.length_seconds is None:
            return self.asked_at
        interval = min(self._remaining * fraction, max_seconds or self._remaining)
        due = self.asked_at + interval
        if not in_step or interval <= 0:
            return due
        group_count = max(in_step / _MAX_IN_A_STEP, _MIN_STEPS)
        step = 2.0 ** math.floor(
            math.log2(interval / group_count)
        )  # the same for intervals that differ a little
        return due - (due / step - _STEP_OFFSET) % 1 * step

    def extend(self, asked_at: float, *, server_time: datetime, expires_at: datetime) -> None:
        """Extend the lease after a renewal. Both instants are the kernel's, so that its clock cancels out.

        Args:
            asked_at: when the renewal was about to be sent, on `clock`.
            server_time: the kernel's time at the renewal.
            expires_at: when the lease ends by the kernel's clock.
        """
        self.length_seconds = self._remaining = (expires_at - server_time).total_seconds()
        self.asked_at = asked_at
        for follower in self._followers:
            follower(self)

    @contextmanager
    def followed_by(self, follower: Callable[[Lease], None]) -> Iterator[None]:
        """Call a function with the lease now, and again each time it is extended within the block."""
        follower(self)
        self._followers.append(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)


# ---------------------------------------------------------------- calls under it


async def call_until_lease_ends(
    call: Callable[[], Awaitable[T]], lease: Lease, *, shows_claim: bool = True
) -> T:
    """Make a call that may be repeated, until the kernel answers it or work under the lease must end.

    Args:
        call: makes one request.
        lease: the lease that bounds the repeats.
        shows_claim: whether the request shows the turn's claim. If not, a `FencingError` says nothing of
            the lease: the kernel answers with it as well when a grant is missing.

    Raises:
        LeaseLost: no answer came in time, and whether the call was carried out is unknown; or the kernel says
            that the claim is no longer valid.
        KernelRefused: the kernel said no.
    """

    def wait(trouble: Exception, seconds: float) -> float:
        seconds = lease.bounded(seconds)
        if lease.clock() + seconds >= lease.fence_at:
            raise LeaseLost(f"no answer before the lease ended: {trouble}") from trouble
        return seconds

    try:
        return await retry(call, on=KernelTrouble, backoff=Backoff(0.1, 5.0), wait=wait)
    except FencingError as fenced:
        if not shows_claim:
            raise
        lease.lost(str(fenced))
        raise LeaseLost(str(fenced)) from fenced
