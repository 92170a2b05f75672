"""`Turn`: a handler's view of its turn, and the calls that it can make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, TypeVar, Unpack

from cgworker.client import KernelClient
from cgworker.deprecation import warn_renamed
from cgworker.durable.children import Child
from cgworker.durable.identity import child_key, fingerprint_of
from cgworker.durable.journal import Journal
from cgworker.durable.parts import Parts
from cgworker.durable.private import PrivateSettings
from cgworker.durable.stream import Stream, open_stream
from cgworker.durable.waits import Waits, own_clock
from cgworker.durable.write_behind import StartSoon, WriteBehind
from cgworker.durable_turn import DurableTurn
from cgworker.interruptible import Interruptible
from cgworker.lease import Lease, call_until_lease_ends
from cgworker.outcome import Suspended
from cgworker.wire.converter import unstructure_plain
from cgworker.wire.meta import Meta
from cgworker.wire.order import Order
from cgworker.wire.records import SemanticItem, TurnContext
from cgworker.wire.refs import AgentRef, CardBoxRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, ChildDerivation, Dispatch, TurnSnapshot

T = TypeVar("T")


class Turn(Interruptible, DurableTurn):
    """One attempt at one turn, as its handler sees it. The worker makes it.

    Args:
        kernel: calls under the agent's identity.
        lease: the lease of the claim held.
        context: the turn and the first page of its records.
        attempt: the number of the attempt, from 1; it grows with each claim that ended without a result.
        page_size: the size of further pages of records.
        more_records: whether there may be records after those in `context`.
        now: returns the time by the kernel's clock; by default that of the machine's own clock.
        private: where private values are.
        start_soon: starts a task that outlives the handler; without it, `once` ignores `ahead`.

    Attributes:
        snapshot: the turn as it was when it was claimed.
        ref: its reference: its project and its id.
        agent: the agent it is addressed to.
        kind: its turn kind, such as `turn.conversation.v1`.
        attempt: the number of the attempt, from 1.
        fingerprint: a value that no other turn has, even after a database reset has given the turn's id away
            again.
        no_room: set by a handler that could not begin, such as for lack of disk space; the worker then claims
            nothing until there is room.
        annotate: what dispatches of children carry in `meta.annotations`; middleware may replace it.
    """

    def __init__(  # noqa: PLR0913  # all that the worker knows of the claim
        self,
        *,
        kernel: KernelClient,
        lease: Lease,
        context: TurnContext,
        attempt: int = 1,
        page_size: int = 100,
        more_records: bool = False,
        now: Callable[[], Awaitable[datetime]] = own_clock,
        private: PrivateSettings | None = None,
        start_soon: StartSoon | None = None,
    ) -> None:
        self._kernel = kernel
        Interruptible.__init__(self, lease)
        settings = private or PrivateSettings()
        DurableTurn.__init__(
            self, Parts(kernel, lease, context, attempt, page_size, more_records, now, settings, start_soon)
        )
        self.snapshot: TurnSnapshot = context.turn
        self.fingerprint: str = fingerprint_of(self.snapshot, kernel)
        self.ref: TurnRef = self.snapshot.turn
        self.agent: AgentRef = self.snapshot.target_agent
        self.kind: str = self.snapshot.turn_kind
        self.attempt = attempt
        self.annotate: Callable[[], Mapping[str, Any]] = dict
        self.no_room: OSError | None = None

    def __repr__(self) -> str:
        return f"Turn({self.ref}, kind={self.kind!r}, attempt={self.attempt})"

    @property
    def suspension(self) -> Suspended | None:
        """How the turn is suspended, if a call of the handler has suspended it; else None."""
        waits: Waits | None = vars(self._parts).get("waits")
        return None if waits is None else waits.suspension

    @property
    def writes(self) -> WriteBehind:
        """What is written while the handler goes on; the worker sees to it that it is over in the end."""
        return self._parts.journal.writes

    @property
    def is_writing(self) -> bool:
        """Whether something is being written while the handler goes on."""
        journal: Journal | None = vars(self._parts).get("journal")
        return journal is not None and bool(journal.writes.under_way)

    # ------------------------------------------------------------ what the turn is

    @property
    def input(self) -> Any:
        """The input of the turn: the payload of its first record."""
        return self._parts.input

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not get into child processes, logs or records."""
        return (self._lease.claim.token, *self._kernel.secrets)

    @property
    def kernel(self) -> KernelClient:
        """The client with the agent's identity, for calls that have no method here."""
        return self._kernel

    @property
    def lease(self) -> Lease:
        """The lease of the claim held, for handlers that start what must not outlive it."""
        return self._lease

    @property
    def seconds_left(self) -> float:
        """The seconds until the lease ends, if it is not renewed again."""
        return self._lease.seconds_left

    async def records(self, role: str | None = None) -> tuple[SemanticItem, ...]:
        """Return the turn's records so far, oldest first, those of earlier attempts included.

        Messages that came since the last look at the records may be missing: `messages` has them.

        Args:
            role: only records of this role; None is all.
        """
        return await self._parts.journal.records(role)

    # ------------------------------------------------------------ records and children

    async def record(self, payload: Any, role: str = "progress") -> CardBoxRef:
        """Append a public process record: exactly once, even if the answer is lost.

        Args:
            payload: any JSON value, or an object of an attrs class or a dataclass.
            role: what kind of record it is.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused, for instance because the claim is no longer valid.
        """
        return await self._parts.journal.append(payload, role)

    def stream(
        self,
        role: str = "progress",
        *,
        max_characters: int = 4096,
        max_seconds: float = 0.5,
        most_characters: int | None = None,
        most_seconds: float | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        """Publish text as it comes, in few records: `async with turn.stream() as out: await out.write("…")`.

        The rest of the text is recorded at the end of the block, also if the handler is interrupted there, as
        far as the lease allows.

        Args:
            role: the role of the records, whose payloads are `{"index": n, "text": ...}`.
            max_characters: make a record once this many characters wait.
            max_seconds: make a record once text has waited for this many seconds.
            most_characters: the old name of `max_characters`; deprecated.
            most_seconds: the old name of `max_seconds`; deprecated.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel did not accept a record.
        """
        if most_characters is not None:
            warn_renamed("stream(most_characters=)", "stream(max_characters=)")
            max_characters = most_characters
        if most_seconds is not None:
            warn_renamed("stream(most_seconds=)", "stream(max_seconds=)")
            max_seconds = most_seconds
        return open_stream(self._parts.journal, role, max_characters=max_characters, max_seconds=max_seconds)

    async def dispatch(
        self, agent_id: str, input: Any, *, key: str, kind: str = CONVERSATION_KIND, **order: Unpack[Order]
    ) -> TurnRef:
        """Dispatch a child turn under this turn's claim. A repeat with the same key gives the same turn.

        Args:
            agent_id: an agent of the same project.
            input: any JSON value.
            key: names the child within this turn, across attempts.
            kind: the child's turn kind; the agent must have that capability.
            order: when and in which order the child is claimed, as in `Dispatch`: `not_before` or
                `delay_seconds`, `priority`, `serial_key`, `fairness_key`.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused, for instance because the agent does not exist.
            KernelLacks: the kernel does not know a field of the order, as the reference's does not.
        """
        await self.writes.over()
        target = AgentRef(project_id=self.ref.project_id, agent_id=agent_id)
        annotations = self.annotate()
        child = Dispatch(
            requested_by=self.agent,
            target_agent=target,
            input=unstructure_plain(input),
            turn_kind=kind,
            dispatch_key=child_key(self.ref, key),
            authority=ChildDerivation(parent_claim=self._lease.claim),
            meta=Meta(annotations=annotations) if annotations else None,
            **order,
        )
        return await call_until_lease_ends(lambda: self._kernel.turns.dispatch(child), self._lease)

    async def _dispatch_child(self, name: str, child: Child) -> TurnRef:
        return await self.dispatch(child.agent_id, child.input, key=name, kind=child.kind, **child.order)
