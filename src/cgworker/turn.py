"""`Turn`: what a handler sees of its turn, and may do about it."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from cgworker.client import KernelClient
from cgworker.errors import KernelTrouble
from cgworker.lease import Interrupted, Interruption, Lease, Reason, insist
from cgworker.wire.records import SemanticItem, TurnContext
from cgworker.wire.refs import AgentRef, CardBoxRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, ChildDerivation, Dispatch, TurnSnapshot


class Turn:
    """One attempt at one turn, as its handler sees it. Made by the worker.

    Args:
        kernel: calls under the agent's identity.
        lease: the lease of the claim held.
        context: the turn and the first page of its records.
        attempt: 1 for the first try; grows with each claim that ended without a result.
        page_size: how many records a further page is asked for.
        more_records: whether there may be records after those in `context`.
    """

    def __init__(
        self,
        *,
        kernel: KernelClient,
        lease: Lease,
        context: TurnContext,
        attempt: int = 1,
        page_size: int = 100,
        more_records: bool = False,
    ) -> None:
        self._kernel = kernel
        self._lease = lease
        self._records = list(context.semantic_items)
        self._more_records = more_records
        self._page_size = page_size
        self._appending = anyio.Lock()
        self._known_boxes: set[str] | None = None
        self._interrupt_hooks: list[Callable[[Interruption], None]] = []
        self.snapshot: TurnSnapshot = context.turn
        self.attempt = attempt
        self.interruption: Interruption | None = None

    def __repr__(self) -> str:
        return f"Turn({self.ref}, kind={self.kind!r}, attempt={self.attempt})"

    # ------------------------------------------------------------ what it is

    @property
    def ref(self) -> TurnRef:
        """The turn's name."""
        return self.snapshot.turn

    @property
    def agent(self) -> AgentRef:
        """The agent it is addressed to."""
        return self.snapshot.target_agent

    @property
    def kind(self) -> str:
        """Its turn kind, such as `turn.conversation.v1`."""
        return self.snapshot.turn_kind

    @property
    def input(self) -> Any:
        """What the turn was dispatched with: the payload of its first record."""
        return self._records[0].payload if self._records else None

    @property
    def fingerprint(self) -> str:
        """What tells this turn from every other, also after a database reset gave its id away again."""
        agent, born = self.agent, self.snapshot.created_at.isoformat()
        facts = [self._kernel.base_url, str(agent), self.ref.turn_id, self.snapshot.spawn_key, born]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:40]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not get out through a child, a log or a record."""
        return (self._lease.claim.token, *self._kernel.secrets)

    @property
    def kernel(self) -> KernelClient:
        """Calls under the agent's identity, for what has no method here."""
        return self._kernel

    @property
    def lease(self) -> Lease:
        """The lease of the claim held, for handlers that start what must not outlive it."""
        return self._lease

    @property
    def seconds_left(self) -> float:
        """How long the lease lasts if it were not renewed again."""
        return self._lease.seconds_left

    async def records(self, role: str | None = None) -> tuple[SemanticItem, ...]:
        """The turn's records so far, oldest first, those of earlier attempts included.

        Args:
            role: only records of this role.
        """
        while self._more_records:
            page = await insist(self._next_page, self._lease)
            self._records.extend(page.semantic_items)
            self._more_records = len(page.semantic_items) >= self._page_size
        return tuple(item for item in self._records if role is None or item.record.record_role == role)

    async def _next_page(self) -> TurnContext:
        last_seq = self._records[-1].record.turn_seq if self._records else 0
        return await self._kernel.turns.context(self.ref, after_turn_seq=last_seq, limit=self._page_size)

    # ------------------------------------------------------------ what it may do

    async def record(self, payload: Any, role: str = "progress") -> CardBoxRef:
        """Append a public process record, exactly once, whatever happens to the answer.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel said no, for instance because the claim is no longer ours.
        """
        async with self._appending:
            if self._known_boxes is None:
                self._known_boxes = {item.record.cardbox_ref.cardbox_id for item in await self.records()}
            key = uuid.uuid4().hex
            ref = await insist(lambda: self._append(payload, role, key), self._lease)
            self._known_boxes.add(ref.cardbox_id)
            self._more_records = True
            return ref

    async def _append(self, payload: Any, role: str, key: str) -> CardBoxRef:
        """One try. After a lost answer the records tell whether it was carried out."""
        try:
            return await self._kernel.turns.append(self._lease.claim, payload, role=role, idempotency_key=key)
        except KernelTrouble:
            if (landed := await self._find_appended(payload, role)) is not None:
                return landed
            raise

    async def _find_appended(self, payload: Any, role: str) -> CardBoxRef | None:
        """The record, if it is there after all: only the claim's holder appends, and one at a time."""
        self._more_records = True
        for item in await self.records(role):
            if (
                item.record.cardbox_ref.cardbox_id not in (self._known_boxes or ())
                and item.payload == payload
            ):
                return item.record.cardbox_ref
        return None

    async def dispatch(
        self, agent_id: str, input: Any, *, key: str, kind: str = CONVERSATION_KIND
    ) -> TurnRef:
        """Dispatch a child turn under this turn's claim; repeating it with the same key gives the same turn.

        Args:
            agent_id: an agent of the same project.
            input: any JSON value.
            key: names the child within this turn, across attempts.
            kind: the child's turn kind; the agent must have that capability.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel said no, for instance because the agent does not exist.
        """
        child = Dispatch(
            requested_by=self.agent,
            target_agent=AgentRef(project_id=self.ref.project_id, agent_id=agent_id),
            input=input,
            turn_kind=kind,
            dispatch_key=self._derive_key(key),
            authority=ChildDerivation(parent_claim=self._lease.claim),
        )
        return await insist(lambda: self._kernel.turns.dispatch(child), self._lease)

    def _derive_key(self, key: str) -> str:
        """The project-wide dispatch key of this turn's child `key`: readable where the rules allow it."""
        plain = re.fullmatch(r"[A-Za-z0-9._:@/-]{1,90}", key)
        return f"{self.ref.turn_id}:{key if plain else hashlib.sha256(key.encode()).hexdigest()}"

    # ------------------------------------------------------------ how it is ended

    @property
    def stop_requested(self) -> bool:
        """True once somebody has asked for the turn to be stopped."""
        return self.interruption is not None and self.interruption.reason is Reason.STOP

    def check(self) -> None:
        """For handlers in threads, now and then: end here if the turn is being interrupted.

        Raises:
            Interrupted: it is; let it through.
        """
        if self.interruption is not None:
            raise Interrupted(self.interruption)

    @contextmanager
    def shield(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Finish something although the turn is being interrupted: `with turn.shield(5): await save()`.

        Args:
            seconds: how long at most; never longer than the lease lasts.
        """
        with anyio.move_on_after(min(seconds, max(self.seconds_left, 0)), shield=True) as scope:
            yield scope

    def interrupt(self, reason: Reason, note: str | None = None, *, grace_seconds: float = 0.0) -> None:
        """End the handler, for the worker. The first reason stands, but a lost lease outranks it."""
        if self.interruption is not None and reason is not Reason.LEASE_LOST:
            return
        if self.interruption is not None and self.interruption.reason is Reason.LEASE_LOST:
            return
        self.interruption = Interruption(reason, note, grace_seconds)
        for hook in list(self._interrupt_hooks):
            hook(self.interruption)

    @contextmanager
    def on_interrupt(self, hook: Callable[[Interruption], None]) -> Iterator[None]:
        """Be told of interruptions within the block, at once if there is one already."""
        self._interrupt_hooks.append(hook)
        try:
            if self.interruption is not None:
                hook(self.interruption)
            yield
        finally:
            self._interrupt_hooks.remove(hook)
