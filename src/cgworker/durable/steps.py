"""Steps: work that is done once in a turn's life, however often its handler starts again.

A step is stored as a record of role `step`, `{"key": ..., "value": ...}`. It is repeated only if the worker
died after doing it and before storing it. The value of a private step is in a private store, and its record
is `{"key": ..., "private": {"sha256": ..., "bytes": ...}}`.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from cgworker.durable.journal import Journal
from cgworker.durable.private import PrivateValues, is_private_step
from cgworker.errors import PrivateStepMissing
from cgworker.wire.converter import dumps, loads, structure_plain, unstructure_plain

STEP_ROLE = "step"


class Steps:
    """The steps of one turn.

    Args:
        journal: the turn's records and events.
        private: the private values of the turn.
    """

    def __init__(self, journal: Journal, private: PrivateValues) -> None:
        self._journal = journal
        self._private = private
        self._records: dict[str, Mapping[str, Any]] | None = None
        self._values: dict[str, Any] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def once(self, key: str, make: Callable[[], Any], returns: Any, *, private: bool = False) -> Any:
        """Return the value of the step; compute and store it if no attempt has done so yet. See `Turn.once`.

        Args:
            key: the step's name within the turn.
            make: computes the value; may be async.
            returns: the type that the stored value is read as.
            private: store the value in the private store.

        Raises:
            TypeError: the value is not JSON.
            PrivateStepMissing: the private store does not have the value.
            Suspending: the same, and another worker may have it.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a call, for instance because the claim is no longer ours.
        """
        if key not in self._values and not await self._find(key):
            async with self._locks[key]:  # two tasks may ask for the same step
                if key not in self._values:
                    was_private = key in await self._load()  # and its value is missing
                    self._values[key] = await self._make(key, make, private or was_private)
        return structure_plain(returns, self._values[key])

    async def _find(self, key: str) -> bool:
        """Take the value that an earlier attempt has stored; return False if the step is to be done."""
        kept = (await self._load()).get(key)
        if kept is None:
            return False
        if not is_private_step(kept):
            self._values[key] = kept["value"]
            return True
        try:
            self._values[key] = await self._private.get(key, kept["private"])
        except PrivateStepMissing:
            if not self._private.may_be_redone:
                raise
            return False
        return True

    async def _load(self) -> dict[str, Mapping[str, Any]]:
        """Return the records of the steps by key: the first of a key, but the last of a private step."""
        if self._records is None:
            kept = [item.payload for item in await self._journal.records(STEP_ROLE)]
            found: dict[str, Mapping[str, Any]] = {}
            for step in filter(_is_step, kept):
                if step["key"] not in found or is_private_step(step):  # it was done again
                    found[step["key"]] = step
            if self._records is None:  # another task may have loaded them meanwhile
                self._records = found
        return self._records

    async def _make(self, key: str, make: Callable[[], Any], private: bool) -> Any:
        made = make()
        value = await made if inspect.isawaitable(made) else made
        if private:
            facts, found = await self._private.put(value)
            await self._journal.append({"key": key, "private": facts}, STEP_ROLE)
            return found
        value = unstructure_plain(value)
        found = loads(dumps(value))  # exactly the value that a later attempt will read
        await self._journal.append({"key": key, "value": value}, STEP_ROLE)
        return found


def _is_step(payload: Any) -> bool:
    return isinstance(payload, dict) and "key" in payload and ("value" in payload or is_private_step(payload))
