"""Renew leases in time, each as long as a scope lasts.

- **One failed renewal changes nothing.** Only a refusal by the kernel, or the end of its time, ends a lease.
- **Renewal is a scope.** It encloses the handler *and* the settle request; a drain does not end it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Protocol

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.lowlevel import RunVar
from attrs import define, frozen

from cgworker.errors import CommonGroundError, KernelRefused, KernelTrouble
from cgworker.events import logger
from cgworker.lease import RENEW_FRACTION, Lease
from cgworker.retrying import Backoff
from cgworker.wire.refs import ClaimToken


@frozen
class RenewalResult:
    """The kernel's answer to a renewal.

    Attributes:
        server_time: the kernel's time at the renewal.
        expires_at: when the lease ends, by the kernel's clock.
        stop_requested: whether a stop of the turn was requested.
    """

    server_time: datetime
    expires_at: datetime
    stop_requested: bool


@define
class HeldLeases:
    """How many leases are held in this event loop."""

    count: int = 0


_HELD: RunVar[HeldLeases] = RunVar("cgworker_leases_kept")


def _held_here() -> HeldLeases:
    try:
        return _HELD.get()
    except LookupError:
        _HELD.set(renewed := HeldLeases())
        return renewed


class Renewable(Protocol):
    """What is called and asked when a lease is renewed: `RenewalHooks`, or an object that watches a lease."""

    def next_at(self, lease: Lease, held_count: int) -> float:
        """Return when to renew, on the lease's clock; `held_count` leases are held in this event loop."""

    @property
    def renew(self) -> Callable[[ClaimToken], Awaitable[RenewalResult]]:
        """Renews the claim at the kernel."""

    @property
    def lost(self) -> Callable[[str], None]:
        """Called once, when the lease is lost, with the reason in words."""

    @property
    def stop(self) -> Callable[[], None]:
        """Called after each renewal that reports a stop request."""

    @property
    def check_further(self) -> Callable[[], Awaitable[None]]:
        """Checks, after each renewal, what its answer does not report; it has the same time limit."""

    @property
    def renewed(self) -> Callable[[float], None]:
        """Called after each renewal, with the seconds to the next one."""

    @property
    def failed(self) -> Callable[[CommonGroundError], None]:
        """Called after each renewal that failed and will be repeated."""


@frozen
class RenewalHooks:
    """Functions and settings for the renewal of one lease.

    Attributes:
        renew: renews the claim at the kernel.
        lost: called once, when the lease is lost, with the reason in words.
        stop: called after each renewal that reports a stop request.
        check_further: called after each renewal, to check what its answer does not report; it has the same
            time limit.
        renewed: called after each renewal, with the seconds to the next one.
        failed: called after each renewal that failed and will be repeated.
        fraction: renew after this part of the lease.
        max_seconds: renew after so many seconds at the latest; None is no such limit.
        in_step: renew at the same instants as others that are renewed in this event loop.
    """

    renew: Callable[[ClaimToken], Awaitable[RenewalResult]]
    lost: Callable[[str], None]
    stop: Callable[[], None]
    check_further: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
    renewed: Callable[[float], None] = lambda _: None
    failed: Callable[[CommonGroundError], None] = lambda _: None
    fraction: float = RENEW_FRACTION
    max_seconds: float | None = None
    in_step: bool = False

    def next_at(self, lease: Lease, held_count: int) -> float:
        """Return when to renew, on the lease's clock; `held_count` leases are held in this event loop."""
        in_step = held_count if self.in_step else 0
        return lease.renew_at(self.fraction, self.max_seconds, in_step=in_step)


@define(eq=False)
class _Scheduled:
    """A lease that is renewed, and how to end the task that renews it, once there is one.

    Attributes:
        due_at: when the lease must be renewed or is lost, on its clock.
    """

    lease: Lease
    hooks: Renewable
    held: HeldLeases
    due_at: float
    scope: anyio.CancelScope | None = None
    sleep_scope: anyio.CancelScope | None = None

    @property
    def seconds_left(self) -> float:
        """The seconds until the lease must be renewed or is lost."""
        return self.due_at - self.lease.clock()

    def start_in(self, tasks: anyio.abc.TaskGroup) -> None:
        self.scope = anyio.CancelScope()
        tasks.start_soon(self._run, self.scope)

    def recheck(self) -> None:
        if self.sleep_scope is not None:
            self.sleep_scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        with scope:
            await anyio.lowlevel.checkpoint()  # the scope may have been cancelled already
            try:
                await self._renew_until_lost()
            except Exception:  # a bug must not end the renewal of other leases
                logger.exception("%s: its renewal broke down", self.lease.claim.turn)
                self.hooks.lost("its renewal broke down")

    async def _renew_until_lost(self) -> None:
        lease, hooks, backoff = self.lease, self.hooks, Backoff(0.1, 2.0)
        while True:
            await self._sleep_until(self.due_at)
            if lease.clock() >= lease.fence_at:
                hooks.lost("it ran out before it could be renewed")
                return
            try:
                await _renew_once(lease, hooks, self.held)
            except KernelRefused as refused:
                hooks.lost(str(refused))
                return
            except CommonGroundError as trouble:
                hooks.failed(trouble)
                next_at = lease.clock() + lease.bounded(backoff.next_seconds(trouble))
            else:
                backoff.reset()
                next_at = hooks.next_at(lease, self.held.count)
            self.due_at = min(next_at, lease.fence_at)

    async def _sleep_until(self, instant: float) -> None:
        # The clock may stop or jump while this task sleeps.
        while (seconds := instant - self.lease.clock()) > 0:
            with anyio.CancelScope() as self.sleep_scope:
                await anyio.sleep(seconds)


class RenewalScheduler:
    """Renews leases. A lease gets a task when its first renewal is due, since most turns end before that.

    Args:
        tasks: runs these tasks, and one more that waits for the next lease that is due.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: set[_Scheduled] = set()
        self._started: set[_Scheduled] = set()
        self._sleep_scope: anyio.CancelScope | None = None
        self._sleeps_until = 0.0  # on the clock of the leases
        self.held: HeldLeases = _held_here()

    @contextmanager
    def keeping(self, lease: Lease, hooks: Renewable) -> Iterator[None]:
        """Renew the lease until the block ends, or until it is lost (`hooks.lost`)."""
        scheduled = self.begin(lease, hooks)
        try:
            yield
        finally:
            self.end(scheduled)

    def begin(self, lease: Lease, hooks: Renewable) -> _Scheduled:
        """Begin to renew a lease, until `end` or until it is lost (`hooks.lost`)."""
        self.held.count += 1
        due_at = min(hooks.next_at(lease, self.held.count), lease.fence_at)
        scheduled = _Scheduled(lease, hooks, self.held, due_at)
        self._schedule(scheduled)
        lease.lost = hooks.lost
        return scheduled

    def end(self, scheduled: _Scheduled) -> None:
        """End the renewal of a lease that was begun."""
        scheduled.lease.lost = _ignore
        self._waiting.discard(scheduled)
        self._started.discard(scheduled)
        if scheduled.scope is not None:
            scheduled.scope.cancel()
        self.held.count -= 1

    def recheck(self) -> None:
        """Wake the sleeping tasks to read the clock again, after it has jumped as by a suspend."""
        if self._sleep_scope is not None:
            self._sleep_scope.cancel()
        for scheduled in self._started:
            scheduled.recheck()

    def _schedule(self, scheduled: _Scheduled) -> None:
        self._waiting.add(scheduled)
        if self._sleep_scope is None:
            self._sleep_scope = anyio.CancelScope()
            self._tasks.start_soon(self._start_due)
        elif scheduled.due_at < self._sleeps_until:
            self._sleep_scope.cancel()

    async def _start_due(self) -> None:
        """Start the task of each lease that is due, until no lease waits."""
        while self._waiting:
            for scheduled in [each for each in self._waiting if each.seconds_left <= 0]:
                self._waiting.remove(scheduled)
                self._started.add(scheduled)
                scheduled.start_in(self._tasks)
            first = min(self._waiting, key=_due_at, default=None)
            seconds = 0.0 if first is None else max(first.seconds_left, 0.0)
            self._sleeps_until = 0.0 if first is None else first.due_at
            with anyio.CancelScope() as self._sleep_scope:
                await anyio.sleep(seconds)
        self._sleep_scope = None


@asynccontextmanager
async def keep_renewed(lease: Lease, hooks: Renewable) -> AsyncIterator[None]:
    """Renew a lease within the block, as `RenewalScheduler.keeping` does for many."""
    async with anyio.create_task_group() as tasks:
        try:
            with RenewalScheduler(tasks).keeping(lease, hooks):
                yield
        finally:
            tasks.cancel_scope.cancel()


def _due_at(scheduled: _Scheduled) -> float:
    return scheduled.due_at


def _ignore(_reason: str) -> None:
    """Do nothing: the lease is no longer renewed."""


async def _renew_once(lease: Lease, hooks: Renewable, held: HeldLeases) -> None:
    """Try one renewal, within a third of the time left, so that further tries can follow."""
    asked_at = lease.clock()
    seconds = max((lease.fence_at - asked_at) / 3, 0.05)
    try:
        with anyio.fail_after(seconds):
            renewed = await hooks.renew(lease.claim)
    except TimeoutError:
        raise KernelTrouble(f"no answer to a renewal within {seconds:.1f} s") from None
    lease.extend(asked_at, server_time=renewed.server_time, expires_at=renewed.expires_at)
    hooks.renewed(max(hooks.next_at(lease, held.count) - lease.clock(), 0.0))
    if renewed.stop_requested:
        hooks.stop()
    with anyio.move_on_after(seconds):
        await hooks.check_further()
