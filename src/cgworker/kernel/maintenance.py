"""What a kernel does by itself, now and then: end leases, number ledgers, forget keys, analyze what grew."""

from __future__ import annotations

import asyncio
import logging

from cgworker.errors import CommonGroundError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll.notifier import Notifier, turn_topics, work_topic
from cgworker.kernel.metrics import Metrics
from cgworker.kernel.store.claims.reconcile import reconcile_batch
from cgworker.kernel.store.ledger import number_all
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.statistics import analyze_grown

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_BATCH = 500
_KEEP_KEYS_SECONDS = 3600.0
_IDLE_SECONDS = 5.0

FORGET_KEYS = "delete from cg_idempotency_keys where created_at < now() - make_interval(secs => $1)"


class Maintenance:
    """The kernel's chores. Several kernels on one database do them together without harm.

    With a reaper interval of 0 ended leases are left to claims and reconcile calls; the rest is still done.
    """

    def __init__(
        self, config: KernelConfig, database: Database, notifier: Notifier, metrics: Metrics
    ) -> None:
        self._config = config
        self._database = database
        self._notifier = notifier
        self._metrics = metrics
        self._is_in_trouble = False

    async def run(self) -> None:
        """Until cancelled. Trouble is told once, until it is over, and ends nothing."""
        interval = self._config.claim_reaper_interval_seconds
        while True:
            await asyncio.sleep(interval or _IDLE_SECONDS)
            try:
                if interval:
                    await self.reap()
                await self.tidy()
            except CommonGroundError as trouble:
                self._tell(trouble)
            except Exception:
                logger.exception("the reaper has a fault and goes on")
            else:
                self._tell(None)

    def _tell(self, trouble: CommonGroundError | None) -> None:
        if trouble is not None and not self._is_in_trouble:
            logger.warning("the reaper cannot work: %s", trouble)
        if trouble is None and self._is_in_trouble:
            logger.warning("the reaper works again")
        self._is_in_trouble = trouble is not None

    async def tidy(self) -> None:
        """Number the ledgers that nobody reads, forget old keys, and look after what plans are made of."""
        await number_all(self._database)
        await analyze_grown(self._database)
        await self._database.execute(FORGET_KEYS, max(_KEEP_KEYS_SECONDS, self._config.claim_timeout_seconds))

    async def reap(self) -> None:
        """Give back every turn whose lease has ended, and wake whoever can claim it."""
        while True:
            given_back = await reconcile_batch(self._database, _BATCH)
            for turn, agent in given_back:
                self._notifier.wake(work_topic(agent), *turn_topics(turn, agent))
            self._metrics.reaped.inc(len(given_back))
            if len(given_back) < _BATCH:
                return
