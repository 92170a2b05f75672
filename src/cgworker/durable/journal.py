"""Journal: read a turn's records and events, and append each record exactly once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any

import anyio

from cgworker.client import KernelClient
from cgworker.durable.write_behind import StartSoon, WriteBehind
from cgworker.errors import KernelTrouble, LeaseLost
from cgworker.lease import Lease, call_until_lease_ends
from cgworker.retrying import Backoff
from cgworker.wire.converter import unstructure_plain
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.records import SemanticItem, TurnContext
from cgworker.wire.refs import CardBoxRef, TurnRef
from cgworker.wire.turns import TurnSnapshot

_FEED_PAGE = 500
_WAIT_SECONDS = 50.0
_AT_ONCE_SECONDS = 0.05


class Journal:
    """The records and events of one turn, read and appended under its claim.

    Args:
        kernel: makes calls under the agent's identity.
        lease: the lease of the claim held.
        context: the turn and the first page of its records.
        page_size: how many records to request per further page.
        more_records: True if there may be records after those in `context`.
        start_soon: starts a task that outlives the handler; None if there is nothing that could.
    """

    def __init__(
        self,
        kernel: KernelClient,
        lease: Lease,
        context: TurnContext,
        *,
        page_size: int,
        more_records: bool,
        start_soon: StartSoon | None = None,
    ) -> None:
        self._kernel = kernel
        self._lease = lease
        self._records = list(context.semantic_items)
        self._more_records = more_records
        self._began_whole = not more_records
        self._page_size = page_size
        self._events: list[LedgerEvent] = []
        self._known_boxes: set[str] | None = None
        self.writes: WriteBehind = WriteBehind(start_soon)
        self.turn: TurnRef = context.turn.turn

    @cached_property  # most turns need neither lock, and a lock takes a kilobyte
    def _reading(self) -> anyio.Lock:
        """The lock for reading: two tasks that read at once would both store the same page."""
        return anyio.Lock(fast_acquire=True)

    @cached_property
    def _appending(self) -> anyio.Lock:
        return anyio.Lock(fast_acquire=True)

    # ------------------------------------------------------------ reading

    async def records(self, role: str | None = None) -> tuple[SemanticItem, ...]:
        """Return the turn's records so far, oldest first; read from the kernel what is missing.

        Args:
            role: return only the records of this role; None returns all.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the call.
        """
        await self.writes.over()
        return await self._read(role)

    async def _read(self, role: str | None = None) -> tuple[SemanticItem, ...]:
        async with self._reading:
            while self._more_records:
                page, self._more_records = await call_until_lease_ends(self._next_page, self._lease)
                self._records.extend(page.semantic_items)
        return tuple(item for item in self._records if role is None or item.role == role)

    def may_hold(self, wanted: Callable[[Any], bool]) -> bool:
        """Return whether a record from before this attempt may be of a kind; read nothing from the kernel.

        The first record is the turn's input and does not count.

        Args:
            wanted: returns whether a payload is of the kind.
        """
        return not self._began_whole or any(wanted(item.payload) for item in self._records[1:])

    async def expect_more(self) -> None:
        """Note that the turn has records which are not read yet, once a read in progress has ended."""
        if not self._reading.locked():
            self._more_records = True
            return
        async with self._reading:
            self._more_records = True

    async def wait_for_records(self) -> None:
        """Wait until the turn has a record after those that were read.

        Raises:
            LeaseLost: the lease ended, or the turn is closed.
            KernelLacks: the kernel cannot wait for records.
        """
        known, pause = await self.records(), Backoff(0.1, 5.0)
        last_seq = known[-1].record.turn_seq if known else 0
        while True:
            asked_at = anyio.current_time()
            page = await call_until_lease_ends(
                lambda: self._kernel.turns.wait_for_records(
                    self.turn, after_turn_seq=last_seq, wait_seconds=_WAIT_SECONDS
                ),
                self._lease,
            )
            if page.semantic_items:
                await self.expect_more()
                return
            if page.turn.state == "closed":
                self._lease.lost("the turn is closed")
                raise LeaseLost("the turn is closed")
            if anyio.current_time() - asked_at < _AT_ONCE_SECONDS:  # a kernel that shuts down does not wait
                await anyio.sleep(pause.next_seconds())

    async def _next_page(self) -> tuple[TurnContext, bool]:
        last_seq = self._records[-1].record.turn_seq if self._records else 0
        return await self._kernel.turns.context_page(
            self.turn, after_turn_seq=last_seq, limit=self._page_size
        )

    async def events(self) -> tuple[LedgerEvent, ...]:
        """Return the turn's events so far, including the dispatch and the end of its children, oldest first.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the call.
        """
        async with self._reading:
            while True:
                page, has_more = await call_until_lease_ends(self._next_events, self._lease)
                self._events.extend(page.items)
                if not has_more:
                    return tuple(self._events)

    async def _next_events(self) -> tuple[FeedPage, bool]:
        last_seq = self._events[-1].ledger_seq if self._events else 0
        return await self._kernel.turns.feed_page(self.turn, after_ledger_seq=last_seq, limit=_FEED_PAGE)

    async def snapshot(self, turn: TurnRef) -> TurnSnapshot:
        """Return another turn's state.

        Args:
            turn: the other turn.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the call, for instance because there is no such turn.
        """
        return await call_until_lease_ends(lambda: self._kernel.turns.get(turn), self._lease)

    @property
    def claim_expires_at(self) -> datetime:
        """When the claim held would have ended without a renewal: later than that of each earlier claim."""
        return self._lease.claim.expires_at

    def check_lease(self) -> None:
        """Check that the lease has not ended.

        Raises:
            LeaseLost: it has.
        """
        if self._lease.seconds_left <= 0:
            raise LeaseLost("the lease has ended")

    # ------------------------------------------------------------ appending

    async def append(self, payload: Any, role: str, *, key: str | None = None) -> CardBoxRef:
        """Append a record exactly once, even if the kernel's answer is lost.

        Args:
            payload: a JSON value, or an object of a class with fields.
            role: the record's role.
            key: the idempotency key. Pass the same key to append the same record again after a
                cancellation; by default each call has a key of its own.

        Returns:
            A reference to the stored payload.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the call, for instance because the claim is no longer ours.
            TypeError: the payload is not JSON.
            OSError: the value of an earlier step could not be stored; so for other errors of a private store.
        """
        payload = unstructure_plain(payload)
        await self.writes.over()
        return await self.append_at_once(payload, role, key=key)

    async def append_at_once(self, payload: Any, role: str, *, key: str | None = None) -> CardBoxRef:
        """Append a JSON value as `append` does, and wait for no write: writes call this.

        Args:
            payload: the JSON value.
            role: the record's role.
            key: the idempotency key.
        """
        async with self._appending:
            if self._known_boxes is None:
                self._known_boxes = {item.record.cardbox_ref.cardbox_id for item in await self._read()}
            sure_key = key or uuid.uuid4().hex
            ref = await call_until_lease_ends(lambda: self._append(payload, role, sure_key), self._lease)
            self._known_boxes.add(ref.cardbox_id)
            await self.expect_more()
            return ref

    async def _append(self, payload: Any, role: str, key: str) -> CardBoxRef:
        """Try once to append. If the reply is lost, read the records to learn whether it was stored."""
        try:
            return await self._kernel.turns.append(self._lease.claim, payload, role=role, idempotency_key=key)
        except KernelTrouble:
            if (landed := await self._find_appended(payload, role)) is not None:
                return landed
            raise

    async def _find_appended(self, payload: Any, role: str) -> CardBoxRef | None:
        """Return the record if the kernel stored it: only the claim's holder appends, and one at a time."""
        await self.expect_more()
        for item in await self._read(role):
            is_new = item.record.cardbox_ref.cardbox_id not in (self._known_boxes or ())
            if is_new and item.payload == payload:
                return item.record.cardbox_ref
        return None
