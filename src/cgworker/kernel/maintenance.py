"""Periodic maintenance: reap ended leases, number ledgers, delete old keys, analyze tables, free memory."""

from __future__ import annotations

import asyncio
import logging
import time

from cgworker.errors import CommonGroundError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll.notifier import Notifier, turn_topics, work_topic
from cgworker.kernel.memory import FreedMemory
from cgworker.kernel.metrics import Metrics
from cgworker.kernel.store.claims.reconcile import list_projects_with_ended_leases, reconcile_batch
from cgworker.kernel.store.keys import forget_keys
from cgworker.kernel.store.ledger import number_all
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.statistics import analyze_grown
from cgworker.kernel.store.retention import Position, remove_old

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_BATCH = 500
_REMOVAL_BATCH = 200
_KEEP_KEYS_SECONDS = 3600.0
_FORGET_KEYS_SECONDS = 60.0  # a statement for each project, so that it is better to have many keys in it
_IDLE_SECONDS = 5.0


class Maintenance:
    """The maintenance of a kernel. Several kernels may maintain one database at the same time.

    With a reaper interval of 0 only claims and reconcile calls reap expired leases; the rest is still done.

    Args:
        config: the intervals.
        database: the database to maintain.
        notifier: wakes the agents whose turns are queued again.
        metrics: counts the reaped turns.
    """

    def __init__(
        self, config: KernelConfig, database: Database, notifier: Notifier, metrics: Metrics
    ) -> None:
        self._config = config
        self._database = database
        self._notifier = notifier
        self._metrics = metrics
        self._freed = FreedMemory()
        self._kept_from = Position()
        self._forget_keys_at = 0.0
        self._is_in_trouble = False

    async def run(self) -> None:
        """Run until cancelled. An error is logged once until it is over, and ends nothing."""
        interval = self._config.claim_reaper_interval_seconds
        while True:
            await asyncio.sleep(interval or _IDLE_SECONDS)
            self._freed.give_back()
            try:
                if interval:
                    await self.reap()
                await self.tidy()
                await self.remove_old()
            except CommonGroundError as trouble:
                self._log(trouble)
            except Exception:
                logger.exception("the reaper has a fault and goes on")
            else:
                self._log(None)

    def _log(self, trouble: CommonGroundError | None) -> None:
        if trouble is not None and not self._is_in_trouble:
            logger.warning("the reaper cannot work: %s", trouble)
        if trouble is None and self._is_in_trouble:
            logger.warning("the reaper works again")
        self._is_in_trouble = trouble is not None

    async def tidy(self) -> None:
        """Number all ledgers, delete old Idempotency-Keys, and analyze the tables that have grown."""
        await number_all(self._database)
        await analyze_grown(self._database)
        if time.monotonic() >= self._forget_keys_at:
            await forget_keys(self._database, max(_KEEP_KEYS_SECONDS, self._config.claim_timeout_seconds))
            self._forget_keys_at = time.monotonic() + _FORGET_KEYS_SECONDS

    async def remove_old(self) -> None:
        """Remove what is older than this kernel keeps, if it keeps only some: a few turns at a time.

        A round goes on while it finds something to remove, and at most once over all turns.
        """
        seconds = self._config.retention_seconds
        while seconds is not None:
            after = self._kept_from
            self._kept_from = Position(after.project_id)  # if its project is closed, go on behind it
            self._kept_from, removed_count = await remove_old(
                self._database, after, seconds, max_count=_REMOVAL_BATCH
            )
            self._metrics.removed.inc(removed_count)
            if not removed_count:
                return

    async def reap(self) -> None:
        """Queue every turn again whose lease has ended, and wake the claims that wait for it."""
        for project_id in await list_projects_with_ended_leases(self._database):
            while True:
                given_back = await reconcile_batch(self._database, project_id, _BATCH)
                for turn, agent in given_back:
                    self._notifier.wake(work_topic(agent), *turn_topics(turn, agent))
                self._metrics.reaped.inc(len(given_back))
                if len(given_back) < _BATCH:
                    break
