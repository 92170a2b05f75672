"""Private values: what a step keeps outside CommonGround. Its public record has a digest and a size.

What is stored is 16 random bytes and then the value as JSON; its SHA-256 is its name and its digest. The
random bytes keep the digest from revealing a short value, which could otherwise be found by trial. They also
keep an attempt that lost its lease from overwriting what the next one stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Literal

from attrs import field, frozen

from cgworker.durable.identity import private_name_of
from cgworker.durable.journal import Journal
from cgworker.durable.waits import Waits
from cgworker.errors import PrivateStepMissing
from cgworker.outcome import Suspended, Suspending
from cgworker.stores import FolderStore, PrivateStore
from cgworker.stores.threads import in_thread
from cgworker.wire.converter import dumps, loads, unstructure_plain
from cgworker.wire.turns import TurnSnapshot

PRIVATE_MISSING_REASON = "private_step_missing"
"""Suspend reason of a turn that is handed back because its private values are elsewhere."""

_SALT_BYTES = 16
_MAX_DECODED_AT_ONCE = 64 * 1024
_MAX_HAND_BACK_SECONDS = 60.0


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

    Attributes:
        have_been_put: whether this attempt has put any.
    """

    def __init__(self, turn: TurnSnapshot, settings: PrivateSettings, journal: Journal, waits: Waits) -> None:
        self._snapshot = turn
        self._settings = settings
        self._journal = journal
        self._waits = waits
        self.have_been_put: bool = False

    @cached_property  # a turn without private values needs no name for them
    def _turn(self) -> str:
        """The part that names the turn in the names of the values."""
        return private_name_of(self._snapshot)

    @property
    def may_be_redone(self) -> bool:
        """Whether a step whose value is missing is done again."""
        return self._settings.on_missing == "redo"

    async def put(self, value: Any) -> tuple[dict[str, Any], Any]:
        """Store a value.

        Args:
            value: any JSON value, or an object of a class with fields.

        Returns:
            The value's entry in the public record, and the value as a later attempt will read it.

        Raises:
            TypeError, ValueError: the value is not JSON.
        """
        self.have_been_put = True
        data, digest, found = await in_thread(partial(_encode, value))
        await self._settings.store.put(f"{self._turn}/{digest}", data)
        return {"sha256": digest, "bytes": len(data)}, found

    async def get(self, key: str, facts: Mapping[str, Any]) -> Any:
        """Return a value.

        Args:
            key: the key of its step.
            facts: the value's entry in the public record.

        Raises:
            PrivateStepMissing: the store does not have it as it was stored.
            Suspending: the same, and another worker may have it.
        """
        digest = facts["sha256"]
        data = await self._settings.store.get(f"{self._turn}/{digest}")
        if data is not None and len(data) <= _MAX_DECODED_AT_ONCE:
            is_there, value = _decode(data, digest)
        elif data is not None:
            is_there, value = await in_thread(partial(_decode, data, digest))
        else:
            is_there, value = False, None
        if is_there:
            return value
        if self._settings.on_missing == "elsewhere":
            with self._waits.noting_suspension():
                await self._hand_back(key)
        raise PrivateStepMissing(key)

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
        return self.have_been_put or self._journal.may_hold(is_private_step)

    async def delete(self) -> None:
        """Remove all values of the turn, if there may be any."""
        if self.may_exist:
            await self._settings.store.delete(self._turn)


def is_private_step(payload: Any) -> bool:
    """Return whether a record's payload is that of a step with a private value.

    Args:
        payload: the payload.
    """
    facts = payload.get("private") if isinstance(payload, Mapping) else None
    return isinstance(facts, Mapping) and isinstance(facts.get("sha256"), str)


def _is_hand_back(annotations: Mapping[str, Any]) -> bool:
    caller = annotations.get("caller")
    return isinstance(caller, Mapping) and caller.get("reason") == PRIVATE_MISSING_REASON


def _encode(value: Any) -> tuple[bytes, str, Any]:
    """Return what is stored for a value, its digest, and the value as it will be read."""
    text = dumps(unstructure_plain(value))
    data = os.urandom(_SALT_BYTES) + text
    return data, hashlib.sha256(data).hexdigest(), loads(text)


def _decode(data: bytes, digest: str) -> tuple[bool, Any]:
    """Return whether the data is what was stored, and the value."""
    if hashlib.sha256(data).hexdigest() != digest:
        return False, None
    return True, loads(data[_SALT_BYTES:])
