"""Steps: work that is done once in a turn's life, however often its handler starts again.

A step is stored as a record of role `step`, `{"key": ..., "value": ...}`. It is repeated only if the worker
died after doing it and before storing it. The value of a private step is in a private store, and its record
is `{"key": ..., "private": {"sha256": ..., "bytes": ...}}`.

A handler may go on ahead of a private step: its value and its record are written meanwhile. The next step
begins only when the value is stored; one that has no effects, when the value outlives this process. The first
record of a turn is waited for by the next step, a later one by the ninth after it.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio

from cgworker.durable.journal import Journal
from cgworker.durable.private import PrivateValue, PrivateValues, is_private_step
from cgworker.errors import PrivateStepMissing
from cgworker.wire.converter import dumps, loads, structure_plain, unstructure_plain

STEP_ROLE = "step"

_MAX_BEHIND = 8  # records, behind the step that was done last


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
        self._published: set[str] = set()
        self._values: dict[str, Any] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(partial(anyio.Lock, fast_acquire=True))
        self._keeping: anyio.Lock = anyio.Lock(fast_acquire=True)

    async def once(
        self,
        key: str,
        make: Callable[[], Any],
        returns: Any,
        *,
        private: bool = False,
        ahead: bool = False,
        acts: bool = True,
    ) -> Any:
        """Return the value of the step; compute and store it if no attempt has done so yet. See `Turn.once`.

        Args:
            key: the step's name within the turn.
            make: computes the value; may be async.
            returns: the type that the stored value is read as.
            private: store the value in the private store.
            ahead: return before a private value is stored, if the store can find it without its record.
            acts: whether the step has effects.

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
                    self._values[key] = await self._make(
                        key, make, private=private or was_private, ahead=ahead, acts=acts
                    )
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
            found: dict[str, Mapping[str, Any]] = {}
            for item in await self._journal.records(STEP_ROLE):
                if not _is_step(step := item.payload):
                    continue
                if is_private := is_private_step(step):
                    self._published.add(step["private"]["sha256"])
                if is_private or step["key"] not in found:  # a private one was done again
                    found[step["key"]] = step
            if self._records is None:  # another task may have loaded them meanwhile
                self._records = found
        return self._records

    async def _make(
        self, key: str, make: Callable[[], Any], *, private: bool, ahead: bool, acts: bool
    ) -> Any:
        writes = self._journal.writes
        await writes.stored(or_written=not acts)
        if private and ahead and (found := await self._private.unpublished(key, self._published)) is not None:
            await self._keep(found, ahead=True)()
            return found.value
        made = make()
        value = await made if inspect.isawaitable(made) else made
        if private:
            ahead = ahead and self._private.are_found_without_records
            async with self._keeping:  # parallel steps are kept in the order of their ends
                encoded = await self._private.encode(key, value)
                if ahead:  # or else this one would outlive one that failed
                    await writes.stored(or_written=True)
                may_go_on = self._keep(encoded, ahead=ahead)
            await may_go_on()
            return encoded.value
        value = unstructure_plain(value)
        found = loads(dumps(value))  # exactly the value that a later attempt will read
        await self._journal.append({"key": key, "value": value}, STEP_ROLE)
        return found

    def _keep(self, value: PrivateValue, *, ahead: bool) -> Callable[[], Awaitable[None]]:
        """Begin to write a value and its record; return what waits until the handler may go on."""
        max_behind = (_MAX_BEHIND if self._published else 0) if ahead else None
        store = self._private.write(value)
        return self._journal.writes.begin(
            store or partial(self._private.put, value),
            partial(self._publish, value),
            is_written=store is not None,
            max_behind=max_behind,
        )

    async def _publish(self, value: PrivateValue) -> None:
        await self._journal.append_at_once({"key": value.key, "private": value.facts}, STEP_ROLE)
        self._published.add(value.digest)


def _is_step(payload: Any) -> bool:
    return isinstance(payload, dict) and "key" in payload and ("value" in payload or is_private_step(payload))
