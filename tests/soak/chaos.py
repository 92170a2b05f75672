"""The chaos: what is killed, paused and restarted, one thing after another; each is remembered."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field

from tests.soak.processes import Alive, Servant, descendants, describe, is_alive, marked, signal_all
from tests.soak.stage import LEASE_SECONDS, Stage

ORPHAN_SECONDS = 10.0


@define
class Deed:
    """Something done to somebody, from when to when. `target` is a worker's incarnation, or a name."""

    what: str
    target: str
    began_at: float
    ended_at: float | None = None

    def covers(self, at: float, *, margin_seconds: float = 0.0) -> bool:
        """Whether it was going on then, or had ended less than the margin before."""
        ended_at = float("inf") if self.ended_at is None else self.ended_at
        return self.began_at <= at <= ended_at + margin_seconds


@define
class Chaos:
    """Does a deed every few seconds.

    Attributes:
        deeds: what was done.
        orphans: processes of dead workers that lived on for too long: whose, and what they are.
        bad_drains: workers that did not end with status 0 after a SIGTERM.
    """

    stage: Stage
    chance: random.Random
    deeds: list[Deed] = field(factory=list)
    orphans: list[str] = field(factory=list)
    bad_drains: list[tuple[str, int]] = field(factory=list)
    _later: list[asyncio.Task[None]] = field(factory=list)

    async def run(self, seconds: float) -> None:
        """Until the time is over and everything is up again."""
        deadline = time.monotonic() + seconds
        deeds = self._shuffled()
        while time.monotonic() < deadline:
            await asyncio.sleep(self.chance.uniform(1.0, 3.0))
            await next(deeds)
        while pending := [task for task in self._later if not task.done()]:
            await asyncio.wait(pending)
        for task in self._later:
            task.result()

    def _shuffled(self) -> Iterator[Coroutine[Any, Any, None]]:
        """All deeds in a random order, again and again: even a short soak meets each of them."""
        while True:
            hand = [self._kill_worker] * 4 + [self._drain_worker] * 2
            hand += [self._pause_worker] * 2 + [self._pause_worker_alone] * 2
            hand += [self._kill_kernel] * max(2, len(self.stage.kernels))
            hand += [self._kill_kernels, self._pause_kernel, self._restart_postgres]
            self.chance.shuffle(hand)
            for deed in hand:
                yield deed()

    # ------------------------------------------------------------ workers

    async def _kill_worker(self) -> None:
        """SIGKILL; what it leaves behind is looked at ten seconds later."""
        if (worker := self._free_worker()) is None:
            return
        left = descendants(worker.pid)
        with self._doing("kill worker", worker.incarnation):
            incarnation = worker.incarnation
            await worker.end(signal.SIGKILL)
        self._do_later(self._look_for_orphans(incarnation, left))
        self._do_later(self._start_again(worker))

    async def _drain_worker(self) -> None:
        """SIGTERM, as a deploy does."""
        if (worker := self._free_worker()) is None:
            return
        left = descendants(worker.pid)
        worker.is_busy = True

        async def drain() -> None:
            with self._doing("drain worker", worker.incarnation):
                status = await worker.end(signal.SIGTERM)
            if status != 0:
                self.bad_drains.append((worker.incarnation, status))
            self._do_later(self._look_for_orphans(worker.incarnation, left))
            await self._start_again(worker)

        self._do_later(drain())

    async def _pause_worker(self) -> None:
        """SIGSTOP for longer than a lease, its children with it, as if its machine slept."""
        self._pause_for_longer_than_a_lease("pause worker", lambda worker: descendants(worker.pid))

    async def _pause_worker_alone(self) -> None:
        """Its commands go on, and its guard has to end them with their leases."""
        self._pause_for_longer_than_a_lease("pause worker alone", lambda worker: descendants(worker.pid)[:1])

    def _pause_for_longer_than_a_lease(self, what: str, whom: Callable[[Servant], list[Alive]]) -> None:
        if (worker := self._free_worker()) is None:
            return
        worker.is_busy = True

        async def pause() -> None:
            with self._doing(what, worker.incarnation):
                await _pause(whom(worker), LEASE_SECONDS + self.chance.uniform(0.5, 2.0))
            worker.is_busy = False

        self._do_later(pause())

    def _free_worker(self) -> Servant | None:
        """One to do something to."""
        free = [one for one in self.stage.workers if not one.is_busy and one.is_up]
        return self.chance.choice(free) if free else None

    async def _start_again(self, worker: Servant) -> None:
        worker.is_busy = True
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        await worker.start()
        worker.is_busy = False

    async def _look_for_orphans(self, incarnation: str, left: list[Alive]) -> None:
        await asyncio.sleep(ORPHAN_SECONDS)
        found = {*filter(is_alive, left), *marked(f"SOAK_WORKER={incarnation}")}
        self.orphans += [f"{incarnation}: {describe(process)}" for process in found]

    # ------------------------------------------------------------ kernels and the database

    async def _kill_kernel(self) -> None:
        await self._kill(self.chance.choice(self.stage.kernels))

    async def _kill_kernels(self) -> None:
        """All at once: nobody answers."""
        await asyncio.gather(*map(self._kill, self.stage.kernels))

    async def _kill(self, kernel: Servant) -> None:
        with self._doing("kill kernel", kernel.name):
            await kernel.end(signal.SIGKILL)
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            await kernel.start()
            await self.stage.kernel_is_up(kernel)

    async def _pause_kernel(self) -> None:
        kernel = self.chance.choice(self.stage.kernels)
        with self._doing("pause kernel", kernel.name):
            await _pause(descendants(kernel.pid), self.chance.uniform(1.0, 4.0))

    async def _restart_postgres(self) -> None:
        with self._doing("restart postgres", "postgres"):
            await asyncio.to_thread(self.stage.postgres.stop)
            await asyncio.sleep(self.chance.uniform(0.1, 2.0))
            await asyncio.to_thread(self.stage.postgres.start)

    # ------------------------------------------------------------ remembering

    @contextmanager
    def _doing(self, what: str, target: str) -> Iterator[None]:
        deed = Deed(what, target, time.monotonic())
        self.deeds.append(deed)
        try:
            yield
        finally:
            deed.ended_at = time.monotonic()

    def _do_later(self, deed: Coroutine[Any, Any, None]) -> None:
        self._later.append(asyncio.create_task(deed))


async def _pause(asleep: list[Alive], seconds: float) -> None:
    """Stop them, and let them go on whatever happens: the stopped cannot see an end come."""
    signal_all(asleep, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        signal_all(asleep, signal.SIGCONT)
