"""Steps: work that is done once in a turn's life, however often its handler begins again.

A step is kept as a record of role `step`, `{"key": ..., "value": ...}`. It is done again only if the worker
died between doing it and keeping it.
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
    """The steps of one turn."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._values: dict[str, Any] | None = None
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def once(self, key: str, make: Callable[[], Any], returns: Any) -> Any:
        """The value of the step, made now if no attempt has made it yet; see `Turn.once`."""
        async with self._locks[key]:  # the same step in two tasks is still one step
            values = await self._load()
            if key not in values:
                values[key] = await self._make(key, make)
        return structure_plain(returns, values[key])

    async def _load(self) -> dict[str, Any]:
        if self._values is None:
            kept = [item.payload for item in await self._journal.records(STEP_ROLE)]
            found = {step["key"]: step["value"] for step in reversed(kept) if _is_step(step)}
            if self._values is None:  # no other task was quicker
                self._values = found
        return self._values

    async def _make(self, key: str, make: Callable[[], Any | Awaitable[Any]]) -> Any:
        made = make()
        value = unstructure_plain(await made if inspect.isawaitable(made) else made)
        found = loads(dumps(value))  # the very value that a later attempt will find
        await self._journal.append({"key": key, "value": value}, STEP_ROLE)
        return found


def _is_step(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.keys() >= {"key", "value"}
