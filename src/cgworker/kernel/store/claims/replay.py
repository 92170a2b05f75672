"""Dispatch requests, and the replay of one: find the turn that it created, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import Factory, asdict, field, frozen

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.callers import Caller, PresentedCredential, require_caller
from cgworker.kernel.store.claims.fence import check_claim, find_claim, retry_later
from cgworker.kernel.store.ids import digest, digest_of_text, turn_ref
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.wire.absent import ABSENT
from cgworker.wire.refs import ClaimToken, TurnRef
from cgworker.wire.refusals import Refusal
from cgworker.wire.turns import Dispatch, RootRequest


@frozen
class ClaimOrder:
    """When and in which order a dispatch lets its turn be claimed, as columns of cg_turns."""

    priority: int
    serial_key: str | None
    fairness_key: str
    not_before: datetime | None
    delay_seconds: float | None

    @classmethod
    def of(cls, item: DispatchRequest) -> ClaimOrder:
        """Return the order that a dispatch asks for."""
        request = item.request
        return cls(
            priority=0 if request.priority is ABSENT else request.priority,
            serial_key=None if request.serial_key is ABSENT else request.serial_key,
            fairness_key="" if request.fairness_key is ABSENT else request.fairness_key,
            not_before=None if request.not_before is ABSENT else request.not_before,
            delay_seconds=None if request.delay_seconds is ABSENT else request.delay_seconds or None,
        )

    @property
    def is_timed(self) -> bool:
        """Whether the turn may have to wait for an instant."""
        return self.not_before is not None or self.delay_seconds is not None


@frozen
class DispatchRequest:
    """A dispatch, and the credential that its caller presented.

    Attributes:
        order: when and in which order the turn is claimed.
    """

    request: Dispatch
    bearer: PresentedCredential
    order: ClaimOrder = field(init=False, default=Factory(ClaimOrder.of, takes_self=True))


@frozen
class Dispatched:
    """The turn of a dispatch.

    Attributes:
        turn: the turn.
        is_new: whether this dispatch created it; false for a replay.
        is_handed_over: whether it was given to a waiting claim.
        due_in_seconds: how long it cannot be claimed yet; None if it waits for no instant.
    """

    turn: TurnRef
    is_new: bool
    is_handed_over: bool = False
    due_in_seconds: float | None = None


@frozen
class Spawn:
    """The columns of cg_turns and cg_records that follow from a dispatch's authority."""

    cause_kind: str
    cause_id: str
    write_key: str
    entrypoint: str
    parent: ClaimToken | None

    @classmethod
    def of(cls, request: Dispatch) -> Spawn:
        """Return the columns for a dispatch."""
        target, key = request.target_agent.agent_id, request.dispatch_key
        if isinstance(request.authority, RootRequest):
            request_id = request.authority.request_id
            write_key = f"dispatch-root:{target}:{request_id}:{key}"
            return cls("external_request", request_id, write_key, "dispatch.root_request", None)
        parent = request.authority.parent_claim
        write_key = f"dispatch:child:{parent.turn_id}:{target}:{key}"
        return cls("turn", parent.turn_id, write_key, "dispatch.child_derivation", parent)


def places_in_keys(dispatches: Sequence[DispatchRequest]) -> list[int]:
    """Return the place of each dispatch among those of its fairness key, counted from 1.

    Not counted are those that will have to wait: for an instant, or for another of their serial key.
    """
    counts: Counter[tuple[Any, ...]] = Counter()
    serial_keys: set[tuple[Any, ...]] = set()
    places = []
    for item in dispatches:
        target, order = item.request.target_agent, item.order
        flow = target, order.priority, order.fairness_key
        serial = None if order.serial_key is None else (target, order.serial_key)
        places.append(counts[flow] + 1)
        counts[flow] += not order.is_timed and serial not in serial_keys
        if serial is not None:
            serial_keys.add(serial)
    return places


# ---------------------------------------------------------------- replays and refusals


# The array and the limit make PostgreSQL find both by their whole keys, whatever it knows of the tables.
FIND_SPAWNED = """
select t.*, r.payload as input
from cg_turns t
cross join lateral (
    select payload
    from cg_records
    where project_id = t.project_id and turn_number = t.turn_number and turn_seq = 1
    limit 1
) r
where t.project_id = $1 and t.spawn_key = any ($2) and t.turn_number > 0
"""

FIND_AGENT = "select capabilities from cg_agents where project_id = $1 and agent_id = $2"


async def replay(database: Database, item: DispatchRequest) -> Dispatched:
    """Return the turn that this dispatch created before; raise the first refusal that applies."""
    request, spawn = item.request, Spawn.of(item.request)
    caller = await require_caller(database, item.bearer)
    project_id = request.requested_by.project_id
    parent = None if spawn.parent is None else await find_claim(database, spawn.parent)
    found = await database.fetchrow(FIND_SPAWNED, project_id, [request.dispatch_key])
    if (
        found is not None
        and _has_same_box(found, request, spawn)
        and not await _has_same_input(found, request)
    ):
        raise ConflictError(f"cardbox write_key conflict: {spawn.write_key}")
    capabilities = await _require_agents(database, request)
    if parent is not None and spawn.parent is not None:
        _check_parent(parent, spawn.parent, caller)
    if found is not None:
        _compare(found, item, spawn)
        return Dispatched(turn_ref(project_id, found["turn_number"]), is_new=False)
    if request.turn_kind.startswith("turn.") and request.turn_kind not in capabilities:
        target = request.target_agent.agent_id
        raise ConflictError(
            f"target agent {target} missing required capability for turn_kind {request.turn_kind}"
        )
    raise retry_later("dispatch")


async def _require_agents(database: Database, request: Dispatch) -> list[str]:
    capabilities: list[str] = []
    for agent in (request.requested_by, request.target_agent):
        row = await database.fetchrow(FIND_AGENT, agent.project_id, agent.agent_id)
        if row is None:
            raise NotFoundError(f"agent not found: {agent.agent_id}")
        capabilities = row["capabilities"]
    return capabilities


def _check_parent(row: Row, claim: ClaimToken, caller: Caller) -> None:
    check_claim(row, claim)
    if caller.agent != claim.agent and not caller.holds("turn.dispatch.any"):
        raise Refusal.MAY_NOT_DISPATCH_CHILD.error()


def _has_same_box(found: Row, request: Dispatch, spawn: Spawn) -> bool:
    return (found["target_agent_id"], found["cause_kind"], found["cause_id"]) == (
        request.target_agent.agent_id,
        spawn.cause_kind,
        spawn.cause_id,
    )


async def _has_same_input(found: Row, request: Dispatch) -> bool:
    return await digest_of_text(found["input"]) == digest(request.input)


def _compare(found: Row, item: DispatchRequest, spawn: Spawn) -> None:
    """Raise ConflictError, naming the first difference, unless the replay equals the first dispatch."""
    request = item.request
    same = {
        "requested_by": found["requested_by_agent_id"] == request.requested_by.agent_id,
        "turn_kind": found["turn_kind"] == request.turn_kind,
        "cause": (found["cause_kind"], found["cause_id"]) == (spawn.cause_kind, spawn.cause_id),
        "bootstrap bundle": _has_same_box(found, request, spawn),
        "target_agent": found["target_agent_id"] == request.target_agent.agent_id,
        **_same_order(found, item.order),
    }
    for what, is_same in same.items():
        if not is_same:
            raise ConflictError(f"spawn key conflict for {request.dispatch_key}: {what} differs")


def _same_order(found: Row, order: ClaimOrder) -> dict[str, bool]:
    """Whether each field of the order is as in the first dispatch; with a delay, `not_before` is its end."""
    is_delayed = found["delay_seconds"] is not None
    return {
        name: value == (None if name == "not_before" and is_delayed else found[name])
        for name, value in asdict(order).items()
    }
