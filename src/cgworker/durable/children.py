"""Children: turns that a turn dispatches to other agents. The turn waits for them without holding a slot.

The list of children is kept as a record of role `children`, `{"turns": {name: {"turn_id", "agent_id",
"turn_kind"}}}`. The turn is suspended with reason `await_children`, and `meta.annotations` names the turns
it waits for: `{"await_children": {"turns": [turn ids], "first": how many}}`. Any worker of the same agent
resumes the turn once that many of them are closed (difference 22).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from cgworker.client import KernelClient
from cgworker.durable.journal import Journal
from cgworker.durable.waits import Waits
from cgworker.errors import UsageError
from cgworker.lease import Lease, call_until_lease_ends
from cgworker.outcome import AWAIT_CHILDREN_REASON, Suspended, Suspending
from cgworker.wire.converter import unstructure_plain
from cgworker.wire.order import Order
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, TurnSnapshot

CHILDREN_ROLE = "children"

_LOOK_AGAIN_SECONDS = 30.0


@frozen
class Child:
    """A turn to dispatch to another agent of the project.

    Attributes:
        agent_id: the agent that gets the turn.
        input: any JSON value, or an object of a class with fields.
        kind: the turn kind; the agent must have it among its capabilities.
        order: when and in which order the turn is claimed, as in `Dispatch`: `not_before` or `delay_seconds`,
            `priority`, `serial_key`, `fairness_key`.
    """

    agent_id: str
    input: Any
    kind: str = field(default=CONVERSATION_KIND, kw_only=True)
    order: Order = field(factory=Order, kw_only=True)


DispatchChild: TypeAlias = Callable[[str, Child], Awaitable[TurnRef]]


@frozen
class ChildResult:
    """The result of a closed child.

    Attributes:
        turn: the child's turn.
        outcome: "succeeded", "failed" or "stopped".
        payload: the child's final payload; None if it left none.
    """

    turn: TurnRef
    outcome: str
    payload: Any = None

    @property
    def succeeded(self) -> bool:
        """True if the child's outcome is "succeeded"."""
        return self.outcome == "succeeded"


@frozen
class _Known:
    """A child that was dispatched, as the record stores it."""

    turn_id: str
    agent_id: str
    turn_kind: str


class Children:
    """The children of one turn.

    Args:
        journal: the turn's records and events.
        kernel: makes calls under the agent's identity.
        lease: the lease of the claim held.
        waits: what else the turn waits for.
    """

    def __init__(
        self,
        journal: Journal,
        kernel: KernelClient,
        lease: Lease,
        waits: Waits,
    ) -> None:
        self._journal = journal
        self._kernel = kernel
        self._lease = lease
        self._waits = waits
        self._wanted: dict[str, Child] = {}

    async def results(
        self, wanted: Mapping[str, Child], first: int | None, dispatch: DispatchChild
    ) -> dict[str, ChildResult]:
        """Return the results by name, or suspend the turn until there are enough; see `Turn.children`.

        Args:
            wanted: the children by name.
            first: how many results are enough; None means all.
            dispatch: dispatches the named child; dispatching it again returns the same turn.

        Returns:
            The results of the children that closed first, at most `first` of them, by name.

        Raises:
            Suspending: too few children are closed yet; the worker suspends the turn.
            UsageError: the handler's fault. `first` is out of range, or a name was used for another child
                before.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a call, for instance because the claim is no longer ours.
        """
        enough = len(wanted) if first is None else first
        if not 0 <= enough <= len(wanted) or first == 0:
            raise UsageError(
                f"first={first} of {len(wanted)} children: it must be 1 to {len(wanted)}, or None"
            )
        names = await self._dispatched(wanted, dispatch)
        closed = await self._closed_ids(names)
        if len(closed) < enough:
            raise Suspending(_awaiting(tuple(names), first))
        chosen = set(closed[:enough])  # in the ledger's order, which is the same on every attempt
        return {names[turn_id]: await self._result(turn_id) for turn_id in names if turn_id in chosen}

    async def _dispatched(self, wanted: Mapping[str, Child], dispatch: DispatchChild) -> dict[str, str]:
        """Dispatch the children that have no turn yet; return the names of all wanted children by turn id."""
        known = await self._known()
        for name, child in wanted.items():
            self._refuse_another(name, child, known.get(name))
        born = {}
        for name, child in wanted.items():
            if name not in known:
                turn = await dispatch(name, child)
                born[name] = _Known(turn.turn_id, child.agent_id, child.kind)
        if born:
            await self._journal.append({"turns": born}, CHILDREN_ROLE)
        return {(known | born)[name].turn_id: name for name in wanted}

    def _refuse_another(self, name: str, child: Child, known: _Known | None) -> None:
        """Raise UsageError if the name belongs to another child, in this attempt or an earlier one.

        The input is compared within this attempt only: another attempt may compute a different one.
        """
        plain = evolve(child, input=unstructure_plain(child.input))
        is_known = known is None or (known.agent_id, known.turn_kind) == (child.agent_id, child.kind)
        if not is_known or self._wanted.setdefault(name, plain) != plain:
            raise UsageError(
                f"{name!r} is the name of another child of {self._journal.turn} already"
                f"{f', {known.turn_id} for {known.agent_id}' if known else ''}: "
                "another child needs another name"
            )

    async def _known(self) -> dict[str, _Known]:
        kept: dict[str, _Known] = {}
        for item in await self._journal.records(CHILDREN_ROLE):
            turns = item.payload.get("turns") if isinstance(item.payload, dict) else None
            kept.update({name: _Known(**facts) for name, facts in (turns or {}).items()})
        return kept

    async def _closed_ids(self, wanted: Mapping[str, str]) -> list[str]:
        """Return the ids of the wanted children that are closed, in the order in which they closed.

        The turn's own events include the ends of its children. If the turn does another one again (difference
        34), the children of that one are not among them: each is read, now and then while it is open.
        """
        events = [event for event in await self._journal.events() if event.subject_id in wanted]
        own = {event.subject_id for event in events}
        closed = {each.subject_id: each.created_at for each in events if each.event_type == "turn.finished"}
        if all(turn_id in own for turn_id in wanted):
            return list(closed)
        for turn_id in (each for each in wanted if each not in own):
            if (closed_at := (await self._read(turn_id)).closed_at) is None:
                self._waits.wake_after(_LOOK_AGAIN_SECONDS)
            else:
                closed[turn_id] = closed_at
        return sorted(closed, key=lambda turn_id: closed[turn_id])

    async def _result(self, turn_id: str) -> ChildResult:
        found = await self._read(turn_id)
        return ChildResult(found.turn, found.outcome or "", found.final_payload)

    async def _read(self, turn_id: str) -> TurnSnapshot:
        turn = TurnRef(project_id=self._journal.turn.project_id, turn_id=turn_id)
        return await call_until_lease_ends(lambda: self._kernel.turns.get(turn), self._lease)


def _awaiting(turn_ids: tuple[str, ...], first: int | None) -> Suspended:
    return Suspended(
        AWAIT_CHILDREN_REASON,
        annotations={"await_children": {"turns": list(turn_ids), "first": first}},
    )
