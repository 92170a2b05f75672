"""Steps: work that is done once in a turn's life, however often its handler starts again.

A step is stored as a record of role `step`, `{"key": ..., "value": ...}`. It is repeated only if the worker
died after doing it and before storing it.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from cgworker.durable.journal import Journal
from cgworker.wire.converter import dumps, loads, structure_plain, unstructure_plain

STEP_ROLE = "step"


class Steps:
    """The steps of one turn.

    Args:
        journal: the turn's records and events.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._values: dict[str, Any] | None = None
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def once(self, key: str, make: Callable[[], Any], returns: Any) -> Any:
        """Return the value of the step; compute and store it if no attempt has done so yet. See `Turn.once`.

        Args:
            key: the step's name within the turn.
            make: computes the value; may be async.
            returns: the type that the stored value is read as.

        Raises:
            TypeError: the value is not JSON.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a call, for instance because the claim is no longer ours.
        """
        async with self._locks[key]:  # two tasks may ask for the same step
            values = await self._load()
            if key not in values:
                values[key] = await self._make(key, make)
        return structure_plain(returns, values[key])

    async def _load(self) -> dict[str, Any]:
        if self._values is None:
            kept = [item.payload for item in await self._journal.records(STEP_ROLE)]
            found = {step["key"]: step["value"] for step in reversed(kept) if _is_step(step)}
            if self._values is None:  # another task may have loaded them meanwhile
                self._values = found
        return self._values

    async def _make(self, key: str, make: Callable[[], Any | Awaitable[Any]]) -> Any:
        made = make()
        value = unstructure_plain(await made if inspect.isawaitable(made) else made)
        found = loads(dumps(value))  # exactly the value that a later attempt will read
        await self._journal.append({"key": key, "value": value}, STEP_ROLE)
        return found


def _is_step(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.keys() >= {"key", "value"}
