"""Run a function for each turn on a Dask cluster, on asyncio: `cgworker[dask]`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio

from cgworker.adapters.cluster import MAX_RESULT_BYTES, ClusterHandler, ResultTooLarge, finished
from cgworker.adapters.extras import require
from cgworker.events import logger
from cgworker.turn import Turn

_GRACE_FRACTION = 0.75


class DaskHandler(ClusterHandler):
    """Runs a function for each turn as a task of a Dask cluster.

    A task whose process dies is run again by Dask, until its processes have died four times (Dask's
    `distributed.scheduler.allowed-failures`); what it does elsewhere should be keyed by
    `RemoteTurn.fingerprint`.

    Dask cannot end a function that runs. When the turn is interrupted, a task that waits is withdrawn, and
    one that runs goes on until it ends by itself, which is logged; nothing of it reaches the turn. With
    `restart_workers` its process is restarted, and Dask runs what else that process did again elsewhere.

    The nodes need cgworker and the function's module, in this program's versions.

    Args:
        function: a function `(input)` or `(turn, input)`, async or not; the turn is a `RemoteTurn`.
        address: the scheduler's address; None takes Dask's own configuration (DASK_SCHEDULER_ADDRESS), and
            without it starts a cluster on this machine.
        restart_workers: True ends an interrupted function by restarting the process that it runs in, which
            needs Dask's nanny. Processes with one thread each then lose nothing else.
        max_result_bytes: the largest result, pickled, that comes back; a larger one stays on the cluster and
            fails the turn with `result_too_large`. The default is 64 MiB.
        options: options of `Client.submit`, such as `resources`, `workers`, `priority` and `retries`.

    Raises:
        UsageError: the caller's fault: the function has another signature.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        address: str | None = None,
        restart_workers: bool = False,
        max_result_bytes: int = MAX_RESULT_BYTES,
        **options: Any,
    ) -> None:
        super().__init__(function, max_result_bytes=max_result_bytes)
        self.address: str | None = address
        self.restart_workers: bool = restart_workers
        self.options: dict[str, Any] = options
        self._client: Any = None

    def check(self) -> None:
        """Check before the first claim that the package is installed.

        Raises:
            UsageError: it is not.
        """
        require("distributed", "dask")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[DaskHandler]:
        """Connect to the cluster for the block; a worker does this for its run."""
        from distributed import Client

        if self._client is not None:
            yield self
            return
        async with Client(self.address, asynchronous=True) as self._client:
            try:
                yield self
            finally:
                self._client = None

    async def run(self, turn: Turn, arguments: tuple[Any, ...]) -> bytes | ResultTooLarge:
        """Run the function as a task, and cancel the task if this is cancelled.

        Args:
            turn: the turn; the task's key begins with its kind and its id.
            arguments: the function's arguments.
        """
        async with self.opened():
            client = self._client
            key = (
                f"{turn.kind}-{turn.ref.turn_id}-{turn.attempt}-{uuid4().hex}"  # never another task's result
            )
            task = client.submit(self.remote, *arguments, key=key, pure=False, **self.options)
            try:
                returned: bytes | ResultTooLarge = await task
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True):
                    await self._cancel(client, task, turn)
                raise
            finally:
                task.release()
            return returned

    async def _cancel(self, client: Any, task: Any, turn: Turn) -> None:
        running = [address for address, keys in (await client.processing()).items() if task.key in keys]
        await client.cancel([task], force=True)
        if running and self.restart_workers:
            await _restart(client, running, turn)
        elif running:
            logger.warning("%s: its function goes on at %s until it ends by itself", turn.ref, running[0])


async def _restart(client: Any, workers: list[str], turn: Turn) -> None:
    """Restart processes; of the new ones nobody waits longer than the interruption's grace."""
    grace = 0.0 if turn.interruption is None else turn.interruption.grace_seconds * _GRACE_FRACTION
    restarting = asyncio.ensure_future(client.restart_workers(workers))
    restarting.add_done_callback(lambda done: done.cancelled() or done.exception())
    if not await finished(restarting, max(grace, 1.0)):
        logger.warning("%s: %s has not restarted yet, in which its function ran", turn.ref, workers[0])
