"""The kernel's timer: one for the earliest instant at which something is due, in each kernel process.

Nothing is polled. Code that makes something due earlier than everything else calls `Timers.expect`; all
kernels on the database then set their timers anew, so that every live kernel keeps each instant. A
notification that is lost costs at most a re-check.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from cgworker.errors import CommonGroundError
from cgworker.kernel.long_poll.long_poll import until_woken
from cgworker.kernel.long_poll.notifier import Notifier, agent_topics, timer_topic, turn_topics, work_topic
from cgworker.kernel.long_poll.parked_claims import ParkedClaims
from cgworker.kernel.metrics import Metrics
from cgworker.kernel.store.claims.due_claim import LeadTime, claim_due_turn
from cgworker.kernel.store.due import NextDue, WokenTurn, next_due, wake_turns
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.ticks import Tick, tick_schedules
from cgworker.wire.refs import AgentRef

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_BATCH = 200
_TROUBLE_SECONDS = 1.0
_LATENCY_SECONDS = 1.0  # how much later than the database a kernel counts an instant from, at most
_MARGIN_SECONDS = 0.001  # an event loop may wake up a moment too early, and then look for nothing


class Timers:
    """The timer of a kernel. Several kernels may share a database; each instant is acted on once.

    Args:
        database: where what is due is looked for.
        notifier: wakes the claims that wait for what is due, and the timers of other kernels.
        metrics: counts what schedules do.
        lease: the length of a lease.
        parked: the claims that wait at this kernel, to which a turn that is due can be given at once.
    """

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        metrics: Metrics,
        lease: timedelta,
        parked: ParkedClaims,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._lease = lease
        self._notifier = notifier
        self._parked = parked
        self._next = NextDue()
        # The earliest instant that this kernel knows of, by the clock of the event loop.
        self._next_at = float("inf")
        self._is_looking = False
        self._doing = asyncio.Lock()
        self._is_in_trouble = False
        self._lead = LeadTime()

    def expect(self, seconds: float) -> None:
        """Set the timers of all kernels anew, if what is due in so many seconds is the earliest.

        Call it after the commit. It may be called for anything: most calls do nothing.
        """
        due_at = _time() + seconds
        if due_at < self._next_at:
            self._next_at = due_at
            if not self._is_looking:
                self._notifier.wake(timer_topic())

    def expect_anew(self) -> None:
        """Set the timers of all kernels anew, as when something is no longer due, or at another time."""
        self._notifier.wake(timer_topic())

    async def run(self) -> None:
        """Run until cancelled. An error is logged once until it is over, and ends nothing."""
        with self._notifier.listening([timer_topic()]) as woken:
            while True:
                woken.clear()
                await self._wait(woken, await self._look())

    async def _wait(self, woken: asyncio.Event, seconds: float) -> None:
        """Wait until something is due, or is to be looked for; give a turn that is due then to a claim."""
        look_at = _time() + self._notifier.recheck_seconds
        due_at, agent = _time() + max(0.0, seconds), self._next.agent
        if agent is not None and due_at < look_at:
            await until_woken(woken, due_at - self._lead.seconds - _time())
            if not woken.is_set():
                await self._hand_over(agent)
        await until_woken(woken, min(due_at + _MARGIN_SECONDS, look_at) - _time())

    async def _look(self) -> float:
        """Do what is due; return how long until more is, or until it is worth another try."""
        self._next_at, self._is_looking = float("inf"), True
        self._next = NextDue()
        try:
            await self.do_what_is_due()
            self._next = await next_due(self._database)
            seconds = self._next.seconds
            self._log(None)
        except CommonGroundError as trouble:
            seconds = _TROUBLE_SECONDS
            self._log(trouble)
        except Exception:
            seconds = _TROUBLE_SECONDS
            logger.exception("the timer has a fault and goes on")
        finally:
            self._is_looking = False
        self._tell_what_came_meanwhile(_time() + seconds)
        return seconds

    def _tell_what_came_meanwhile(self, found_at: float) -> None:
        """Set timers anew for an instant that was expected while this one looked, if it is the earliest."""
        expected_at, self._next_at = self._next_at, min(self._next_at, found_at)
        if expected_at <= found_at:  # it may have been committed after we looked
            if expected_at < float("inf"):
                self._notifier.wake(timer_topic())
        elif expected_at < found_at + _LATENCY_SECONDS:  # we found it; the other kernels do not know of it
            self._notifier.wake_elsewhere(timer_topic())

    async def _hand_over(self, agent: AgentRef) -> None:
        """Give the agent's turn that will be due in a moment to a claim that waits for it here, if any."""
        with self._parked.offering(agent) as waiting:
            if waiting is None:
                return
            try:
                await claim_due_turn(
                    self._database,
                    agent.project_id,
                    waiting,
                    lease=self._lease,
                    lead=self._lead,
                )
            except CommonGroundError as trouble:
                self._log(trouble)
            except Exception:
                logger.exception("the timer has a fault and goes on")

    def _log(self, trouble: CommonGroundError | None) -> None:
        if trouble is not None and not self._is_in_trouble:
            logger.warning("the timer cannot work: %s", trouble)
        if trouble is None and self._is_in_trouble:
            logger.warning("the timer works again")
        self._is_in_trouble = trouble is not None

    async def do_what_is_due(self, *, batch: int = _BATCH) -> None:
        """Let due turns be claimed, dispatch what schedules are due for, and wake the requests that wait.

        Args:
            batch: how many turns or schedules one statement takes.
        """
        async with self._doing:  # what is locked by another task of this kernel would be skipped
            await self._wake_turns(batch)
            await self._tick_schedules(batch)

    async def _wake_turns(self, batch: int) -> None:
        has_more = True
        while has_more:
            turns, has_more = await wake_turns(self._database, batch)
            self._notifier.wake(
                *(work_topic(woken.agent) for woken in turns),
                *(topic for woken in turns if woken.is_resumed for topic in _topics_of(woken)),
            )

    async def _tick_schedules(self, batch: int) -> None:
        has_more = True
        while has_more:
            ticks, has_more = await tick_schedules(self._database, batch, lease=self._lease)
            for tick in ticks:
                note_tick(self._notifier, self._metrics, tick)


def note_tick(notifier: Notifier, metrics: Metrics, tick: Tick) -> None:
    """Count an instant of a schedule, and wake the requests that wait for its turn or its event."""
    metrics.schedule_ticks.labels("skipped" if tick.turn is None else "ticked").inc()
    notifier.wake(*agent_topics(tick.requested_by))
    if tick.turn is not None:
        notifier.wake(work_topic(tick.target), *turn_topics(tick.turn, tick.target))


def _topics_of(woken: WokenTurn) -> tuple[str, ...]:
    return turn_topics(woken.turn, woken.agent)


def _time() -> float:
    return asyncio.get_running_loop().time()
