"""Run a function for each turn on a Ray cluster, on asyncio: `cgworker[ray]`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from cgworker.adapters.cluster import MAX_RESULT_BYTES, ClusterHandler, ResultTooLarge, finished
from cgworker.adapters.extras import require
from cgworker.turn import Turn

_GRACE_FRACTION = 0.75  # the rest of an interruption's grace is for killing the process


class RayHandler(ClusterHandler):
    """Runs a function for each turn as a task of a Ray cluster.

    A task whose node or process dies is run again by Ray, up to `max_retries` times (3 by default); what it
    does elsewhere should be keyed by `RemoteTurn.fingerprint`. When the turn is interrupted, the function
    gets a KeyboardInterrupt; its process is killed if it has not ended within three quarters of the grace.

    A program that has connected to Ray keeps its connection; otherwise the worker connects when it starts.
    The nodes need cgworker and the function's module, in this program's versions.

    Args:
        function: a function `(input)` or `(turn, input)`, async or not; the turn is a `RemoteTurn`.
        address: the cluster's address; None takes RAY_ADDRESS, and without it starts Ray on this machine.
        max_result_bytes: the largest result, pickled, that comes back; a larger one stays on the cluster and
            fails the turn with `result_too_large`. The default is 64 MiB.
        options: options of a Ray task, such as `num_cpus`, `num_gpus`, `resources`, `max_retries` and
            `runtime_env`.

    Raises:
        UsageError: the caller's fault: the function has another signature.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        address: str | None = None,
        max_result_bytes: int = MAX_RESULT_BYTES,
        **options: Any,
    ) -> None:
        super().__init__(function, max_result_bytes=max_result_bytes)
        self.address: str | None = address
        self.options: dict[str, Any] = options
        self._task: Any = None

    def check(self) -> None:
        """Check before the first claim that the package is installed.

        Raises:
            UsageError: it is not.
        """
        require("ray", "ray")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RayHandler]:
        """Connect to the cluster for the block; a worker does this for its run."""
        import ray

        if ray.is_initialized():
            yield self
            return
        with _keeping_signal_handlers():
            ray.init(address=self.address)
        try:
            yield self
        finally:
            ray.shutdown()

    async def run(self, turn: Turn, arguments: tuple[Any, ...]) -> bytes | ResultTooLarge:
        """Run the function as a task, and cancel the task if this is cancelled.

        Args:
            turn: the turn; the task has its id as its name.
            arguments: the function's arguments.
        """
        import ray

        async with self.opened():
            ref = self._remote_task().options(**self.options, name=turn.ref.turn_id).remote(*arguments)
            result = asyncio.wrap_future(ref.future())
            try:
                returned: bytes | ResultTooLarge = await asyncio.shield(result)
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True):
                    await _cancel(ref, result, turn)
                raise
            except ray.exceptions.RayTaskError as failed:
                if isinstance(failed.cause, Exception):
                    raise failed.cause from failed
                raise
            return returned

    def _remote_task(self) -> Any:
        """Return the function as Ray knows it; Ray exports it once."""
        if self._task is None:
            import ray

            remote = self.remote

            def work(*arguments: Any) -> bytes | ResultTooLarge:
                return remote(*arguments)

            self._task = ray.remote(work)
        return self._task


async def _cancel(ref: Any, result: asyncio.Future[Any], turn: Turn) -> None:
    import ray

    grace = 0.0 if turn.interruption is None else turn.interruption.grace_seconds * _GRACE_FRACTION
    ray.cancel(ref)
    if not await finished(result, grace):
        ray.cancel(ref, force=True)
        await finished(result, max(grace, 1.0))


@contextmanager
def _keeping_signal_handlers() -> Iterator[None]:
    """Restore the handlers of SIGTERM and SIGINT after the block: `ray.init` would take SIGTERM over."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if handler is not None:  # one that was not set by Python cannot be restored
                signal.signal(number, handler)
