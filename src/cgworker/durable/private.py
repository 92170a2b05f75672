"""Private values: what a step keeps outside CommonGround. Its public record has a digest and a size.

What is stored is 16 random bytes and then, as JSON, the key of the step, when the claim would have ended, and
the value; the SHA-256 of all is its name and its digest. The random bytes keep the digest from revealing a
short value, which could otherwise be found by trial. They also keep an attempt that lost its lease from
overwriting what the next one stored.

A step that was done ahead of its record may have a value and no record, if its worker died. A later attempt
finds it in the store by its key. If several attempts left one, that of the latest claim counts: what was done
since was done with that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC
from functools import cached_property, partial
from typing import Any, Literal

import anyio
from attrs import field, frozen

from cgworker.durable.identity import private_name_of, redone_by
from cgworker.durable.journal import Journal
from cgworker.durable.waits import Waits
from cgworker.errors import NotFoundError, PrivateStepMissing
from cgworker.outcome import Suspended, Suspending
from cgworker.stores import FolderStore, ListingStore, PrivateStore
from cgworker.stores.threads import in_thread
from cgworker.wire.converter import dumps, loads, unstructure_plain
from cgworker.wire.turns import TurnSnapshot

PRIVATE_MISSING_REASON = "private_step_missing"
"""Suspend reason of a turn that is handed back because its private values are elsewhere."""

_SALT_BYTES = 16
_MAX_DECODED_AT_ONCE = 64 * 1024
_MAX_ENCODED_AT_ONCE = 64 * 1024
_MAX_HAND_BACK_SECONDS = 60.0


@frozen
class PrivateValue:
    """A value as it is stored.

    Attributes:
        key: the key of its step.
        claimed: when the claim under which it was made would have ended; text that sorts by time.
        value: the value, as each attempt reads it.
        digest: its SHA-256, which is its name.
        data: what is stored.
    """

    key: str
    claimed: str
    value: Any
    digest: str
    data: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """What the public record says of it."""
        return {"sha256": self.digest, "bytes": len(self.data)}


@frozen(kw_only=True)
class PrivateSettings:
    """Where private values are, and what happens if one is not there.

    Attributes:
        store: where they are.
        on_missing: "elsewhere" hands the turn back for another worker, "redo" does the step again, "fail"
            raises.
        max_hand_backs: how often a turn is handed back before this is a failure.
    """

    store: PrivateStore = field(factory=FolderStore)
    on_missing: Literal["elsewhere", "redo", "fail"] = "elsewhere"
    max_hand_backs: int = 5


class PrivateValues:
    """The private values of one turn.

    Args:
        turn: the turn.
        settings: where they are.
        journal: the turn's records and events.
        waits: notes that the turn is handed back.
        attempt: the number of the attempt; one before may have left values without records.

    Attributes:
        have_been_put: whether this attempt has put or found any.
    """

    def __init__(
        self, turn: TurnSnapshot, settings: PrivateSettings, journal: Journal, waits: Waits, *, attempt: int
    ) -> None:
        self._snapshot = turn
        self._settings = settings
        self._journal = journal
        self._waits = waits
        self._attempt = attempt
        self._found: dict[str, PrivateValue] | None = None  # looked for once, before this attempt stores any
        self._is_listed = False
        self._small_values: dict[str, dict[str, bytes]] = {}  # of a folder, by turn, until they are used
        self.have_been_put: bool = False

    @cached_property
    def _looking(self) -> anyio.Lock:
        return anyio.Lock(fast_acquire=True)

    @cached_property
    def _claimed(self) -> str:
        return self._journal.claim_expires_at.astimezone(UTC).isoformat(timespec="microseconds")

    @cached_property  # a turn without private values needs no name for them
    def _turn(self) -> str:
        """The part that names the turn in the names of the values."""
        return private_name_of(self._snapshot)

    @property
    def may_be_redone(self) -> bool:
        """Whether a step whose value is missing is done again."""
        return self._settings.on_missing == "redo"

    async def encode(self, key: str, value: Any) -> PrivateValue:
        """Return what is stored for a value.

        Args:
            key: the key of its step.
            value: any JSON value, or an object of a class with fields.

        Raises:
            TypeError, ValueError: the value is not JSON.
        """
        encode = partial(_encode, key, self._claimed, value)
        return encode() if _is_small(value) else await in_thread(encode)

    def write(self, made: PrivateValue) -> Callable[[], Awaitable[None]] | None:
        """Write a value so that it outlives this process, if the store can do so at once: a folder.

        Returns:
            Waits until the value outlives a power cut too; None if nothing was written.

        Raises:
            LeaseLost: the lease has ended, so that nobody may look for it.
            OSError: the value cannot be written.
        """
        self._journal.check_lease()
        self.have_been_put = True
        return None if self._folder is None else self._folder.write(self._name_of(made), made.data)

    async def put(self, made: PrivateValue) -> None:
        """Store a value.

        Raises:
            LeaseLost: the lease has ended, so that nobody may look for it.
        """
        self._journal.check_lease()
        self.have_been_put = True
        await self._settings.store.put(self._name_of(made), made.data)

    def _name_of(self, made: PrivateValue) -> str:
        return f"{self._turn}/{made.digest}"

    @cached_property
    def _folder(self) -> FolderStore | None:
        """The store, if it is a folder; a class derived from it may store otherwise."""
        store = self._settings.store
        return store if type(store) is FolderStore else None

    async def unpublished(self, key: str, published: Collection[str]) -> PrivateValue | None:
        """Return the value that an earlier attempt stored for a step, and died before its record was in.

        Args:
            key: the key of the step.
            published: the digests in the records.
        """
        if self._found is None:
            async with self._looking:
                if self._found is None:
                    self._found = await self._look(published)
        return self._found.get(key)

    @property
    def are_found_without_records(self) -> bool:
        """Whether `unpublished`, which was called before, can find what this attempt stores."""
        return self._is_listed

    async def _look(self, published: Collection[str]) -> dict[str, PrivateValue]:
        store = self._settings.store
        names = await store.names(self._turn) if isinstance(store, ListingStore) else None
        self._is_listed = names is not None
        self.have_been_put = self.have_been_put or bool(names)
        found: dict[str, PrivateValue] = {}
        for name in names or ():
            digest = name.rpartition("/")[2]
            data = None if digest in published else await self._read(self._turn, digest)
            value = None if data is None else await _decoded(data, digest)
            if value is not None and (value.key not in found or found[value.key].claimed < value.claimed):
                found[value.key] = value
        return found

    async def _read(self, turn: str, digest: str) -> bytes | None:
        """Return what the store has under a digest. The small values of a folder are read at once."""
        name = f"{turn}/{digest}"
        if self._folder is None:
            return await self._settings.store.get(name)
        if turn not in self._small_values:
            self._small_values[turn] = await self._folder.small_values(turn)
        return self._small_values[turn].pop(name, None) or await self._folder.large_value(name)

    async def get(self, key: str, facts: Mapping[str, Any]) -> Any:
        """Return a value.

        Args:
            key: the key of its step.
            facts: the value's entry in the public record.

        Raises:
            PrivateStepMissing: the store does not have it as it was stored.
            Suspending: the same, and another worker may have it.
        """
        found = await self._find(facts["sha256"])
        if found is not None:
            return found.value
        if self._settings.on_missing == "elsewhere":
            with self._waits.noting_suspension():
                await self._hand_back(key)
        raise PrivateStepMissing(key)

    async def _find(self, digest: str) -> PrivateValue | None:
        """Return a value by its digest: the turn's own, or one of a turn that this one does again."""
        turn, name = self._snapshot, self._turn
        while True:
            data = await self._read(name, digest)
            if data is not None and (found := await _decoded(data, digest)) is not None:
                return found
            if (redone := await self._redone_by(turn)) is None:
                return None
            turn, name = redone, private_name_of(redone)

    async def _redone_by(self, turn: TurnSnapshot) -> TurnSnapshot | None:
        """Return the turn that one does again, if it keeps its steps."""
        ref = redone_by(turn)
        if ref is None:
            return None
        try:
            earlier = await self._journal.snapshot(ref)
        except NotFoundError:  # it was purged, and its values are out of reach
            return None
        # A requester may choose a request id that looks like a redo's; such a chain must end, too.
        is_earlier = earlier.created_at < turn.created_at
        return earlier if is_earlier and earlier.target_agent == turn.target_agent else None

    async def _hand_back(self, key: str) -> None:
        """Suspend the turn for another worker, later each time, unless that was done often enough."""
        made = sum(_is_hand_back(event.annotations) for event in await self._journal.events())
        if made < self._settings.max_hand_backs:
            raise Suspending(
                Suspended(
                    PRIVATE_MISSING_REASON,
                    f"the private value of the step {key!r} is not in this worker's store",
                    {"private_step_missing": {"key": key}},
                    resume_after_seconds=min(2.0**made, _MAX_HAND_BACK_SECONDS),
                )
            )

    @property
    def may_exist(self) -> bool:
        """Whether the turn may have a value, of this attempt or one before."""
        return self.have_been_put or may_exist_already(self._journal, self._attempt)

    async def delete(self) -> None:
        """Remove all values of the turn, if there may be any."""
        if self.may_exist:
            await self._settings.store.delete(self._turn)


def may_exist_already(journal: Journal, attempt: int) -> bool:
    """Return whether a turn with this journal may have private values of an attempt before this one."""
    return attempt > 1 or journal.may_hold(is_private_step)


def is_private_step(payload: Any) -> bool:
    """Return whether a record's payload is that of a step with a private value.

    Args:
        payload: the payload.
    """
    facts = payload.get("private") if isinstance(payload, dict) else None
    return isinstance(facts, dict) and isinstance(facts.get("sha256"), str)


def _is_hand_back(annotations: Mapping[str, Any]) -> bool:
    caller = annotations.get("caller")
    return isinstance(caller, Mapping) and caller.get("reason") == PRIVATE_MISSING_REASON


def _is_small(value: Any) -> bool:
    """Whether a value is surely small enough to be written as JSON in the event loop.

    Args:
        value: any value; of one with objects of classes it is not known.
    """
    budget, waiting = _MAX_ENCODED_AT_ONCE, [value]
    while waiting and budget > 0:
        each = waiting.pop()
        budget -= 16
        if isinstance(each, str):
            budget -= len(each)
        elif isinstance(each, dict):
            budget -= 16 * len(each)
            if budget > 0:
                waiting += each.keys()
                waiting += each.values()
        elif isinstance(each, list | tuple):
            budget -= 16 * len(each)
            if budget > 0:
                waiting += each
        elif not isinstance(each, int | float | None):
            return False
    return budget > 0


def _encode(key: str, claimed: str, value: Any) -> PrivateValue:
    """Return what is stored for a value, with the value as it will be read."""
    text = dumps([key, claimed, unstructure_plain(value)])
    data = os.urandom(_SALT_BYTES) + text
    return PrivateValue(key, claimed, loads(text)[2], hashlib.sha256(data).hexdigest(), data)


async def _decoded(data: bytes, digest: str) -> PrivateValue | None:
    if len(data) <= _MAX_DECODED_AT_ONCE:
        return _decode(data, digest)
    return await in_thread(partial(_decode, data, digest))


def _decode(data: bytes, digest: str) -> PrivateValue | None:
    """Return the value; None if the data is not what was stored."""
    if hashlib.sha256(data).hexdigest() != digest:
        return None
    key, claimed, value = loads(data[_SALT_BYTES:])
    return PrivateValue(key, claimed, value, digest, data)
