"""Turns: dispatch, read, settle, resume and stop them (wire 6.3, 6.4)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar

from attrs import field, frozen

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.converter import ANSWERS, QUICK_ANSWERS, REQUESTS, unstructure
from cgworker.wire.lazy import Lazy
from cgworker.wire.meta import Meta, Trace
from cgworker.wire.order import OrderKey, Priority
from cgworker.wire.refs import AgentRef, CardBoxRef, Cause, ClaimToken, TurnRef
from cgworker.wire.values import Fault, read_delay

CONVERSATION_KIND = "turn.conversation.v1"
"""The turn kind of a general conversation, the default of a dispatch."""


@frozen(kw_only=True)
class TurnSnapshot(Lazy):
    """The current state of a turn. `final_cardbox_ref` tells a final payload of null from a missing one.

    `resume_at` is when the kernel queues a suspended turn; others do not have it (difference 30).
    """

    turn: TurnRef
    target_agent: AgentRef
    turn_kind: str = CONVERSATION_KIND
    cause: Cause
    state: str
    outcome: str | None = None
    stop_requested: bool
    current_claim_agent_id: str | None = None
    claim_expires_at: datetime | None = None
    spawn_key: str
    final_record_role: str | None = None
    final_cardbox_ref: CardBoxRef | None = None
    final_payload: Any = None
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    resume_at: datetime | Absent = ABSENT
    not_before: datetime | Absent = ABSENT
    priority: int | Absent = ABSENT
    serial_key: str | Absent = ABSENT
    fairness_key: str | Absent = ABSENT


# ---------------------------------------------------------------- dispatch


Anchor = Annotated[str, "anchor"]
"""A dispatch key or the request id of a root, which make a dispatch repeatable (see `read_anchor`)."""

Delay = Annotated[float, "delay"]
"""A number of seconds from now, by the kernel's clock (see `read_delay`)."""


@frozen(kw_only=True)
class RootRequest:
    """Dispatch on the requester's own authority."""

    request_id: str


@frozen(kw_only=True)
class ChildDerivation:
    """Dispatch a child of a claimed turn, under its claim."""

    parent_claim: ClaimToken


@frozen(kw_only=True)
class Dispatch:
    """Dispatch a turn to an agent. A `dispatch_key` identifies one turn of the project.

    The last five say when and in which order the turn is claimed (differences 28 and 29). A kernel that does
    not know them, such as the reference's, refuses them.

    Args:
        not_before: the instant before which the turn cannot be claimed; UTC if it has no offset.
        delay_seconds: in its place, how long the turn cannot be claimed, by the clock of the kernel's
            database.
        priority: -100 to 100; of an agent's turns the higher come first; 0 by default.
        serial_key: of an agent's turns with the same key at most one runs, in the order of their numbers;
            1 to 200 characters.
        fairness_key: turns of one key take turns with those of others, and with those without one; 1 to 200
            characters.
    """

    requested_by: AgentRef
    target_agent: AgentRef
    input: Any
    turn_kind: str = CONVERSATION_KIND
    dispatch_key: Anchor
    authority: RootRequest | ChildDerivation
    meta: Meta | None = None
    trace: Trace | None = None
    not_before: datetime | Absent = ABSENT
    delay_seconds: Delay | Absent = ABSENT
    priority: Priority | Absent = ABSENT
    serial_key: OrderKey | Absent = ABSENT
    fairness_key: OrderKey | Absent = ABSENT


_ANCHOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]*\Z")


def read_anchor(value: object, name: str) -> str:
    """Read a dispatch key or request id of 1 to 128 characters, and trim it (wire 4).

    Args:
        value: the JSON value.
        name: the field's name, for the message.

    Raises:
        Fault: the sender's fault, in the reference's wording.
    """
    if not isinstance(value, str):
        raise Fault("string_type", "Input should be a valid string")
    anchor = value.strip()
    if not anchor:
        raise Fault("value_error", f"{name} must be non-empty after trimming")
    if len(anchor) > 128:
        raise Fault("value_error", f"{name} must be at most 128 characters")
    if not _ANCHOR.match(anchor):
        raise Fault(
            "value_error",
            f"{name} must start with a letter or digit and contain only letters, digits, "
            "'.', '_', '-', ':', '@', and '/'",
        )
    return anchor


@frozen(kw_only=True)
class _Authority:
    """Either kind of authority, in its form on the wire."""

    mode: str
    request_id: str | None = None
    parent_claim: ClaimToken | None = None


def _read_authority(value: Any, _: Any) -> RootRequest | ChildDerivation:
    sent = REQUESTS.structure(value, _Authority)
    if sent.mode == "root_request":
        if sent.parent_claim is not None:
            raise Fault("value_error", "root_request authority cannot include parent_claim")
        if sent.request_id is None:
            raise Fault("value_error", "request_id is required")
        return RootRequest(request_id=read_anchor(sent.request_id, "request_id"))
    if sent.mode == "child_derivation":
        if sent.request_id is not None:
            raise Fault("value_error", "child_derivation authority cannot include request_id")
        if sent.parent_claim is None:
            raise Fault("value_error", "child_derivation authority requires parent_claim")
        return ChildDerivation(parent_claim=sent.parent_claim)
    raise Fault("value_error", f"unsupported dispatch authority mode: {sent.mode}")


def _write_authority(authority: RootRequest | ChildDerivation) -> dict[str, Any]:
    if isinstance(authority, RootRequest):
        return {"mode": "root_request", "request_id": authority.request_id}
    return {"mode": "child_derivation", "parent_claim": unstructure(authority.parent_claim)}


# ---------------------------------------------------------------- settling


@frozen(kw_only=True)
class Finish:
    """The outcome of a turn. An absent `final_payload` leaves no record; null leaves a record of null."""

    outcome: str
    final_payload: Any = ABSENT
    final_record_role: str = "deliverable"
    meta: Meta | None = None


@frozen(kw_only=True)
class FinishTurn(Finish):
    """Close the turn."""

    claim: ClaimToken
    trace: Trace | None = None


@frozen(kw_only=True)
class Suspend:
    """The reason of a suspension, and the delay until the kernel queues the turn again (difference 30).

    Without `resume_after_seconds` the turn waits until a call resumes it.
    """

    reason: str
    note: str | None = None
    meta: Meta | None = None
    resume_after_seconds: Delay | Absent = ABSENT


@frozen(kw_only=True)
class SuspendTurn(Suspend):
    """Suspend the turn until it is resumed."""

    claim: ClaimToken
    trace: Trace | None = None


@frozen(kw_only=True)
class ResumeTurn:
    """Return a suspended turn to the queue."""

    requested_by: AgentRef
    note: str | None = None
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class StopTurn:
    """Request that a turn be stopped."""

    turn: TurnRef
    requested_by: AgentRef
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class TellTurn:
    """Send a message to a turn that is not closed (difference 32). Repeating the key has no effect."""

    requested_by: AgentRef
    message: Any
    key: str | None = None
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class RedoTurn:
    """Dispatch the input of a closed turn anew (difference 34).

    Without `key` the dispatch key is `redo:<turn>`. `keep_steps` carries the records of steps, children,
    questions and answers along.
    """

    requested_by: AgentRef
    key: Anchor | None = None
    keep_steps: bool = False
    meta: Meta | None = None
    trace: Trace | None = None


@frozen(kw_only=True)
class Done:
    """The operation took place, now or at an earlier attempt."""

    ok: bool = True


# ---------------------------------------------------------------- many in one request (difference 9)


MAX_ITEMS = 1000
"""The most turns that one request can claim, renew or settle."""


@frozen(kw_only=True)
class NextClaim:
    """Claim the agent's next turn when this one is settled; `idempotency_key` as in `ClaimItem`."""

    idempotency_key: str | None = None


@frozen(kw_only=True)
class SettleItem:
    """Either finish or suspend one turn, and optionally claim the next one."""

    claim: ClaimToken
    credential: str = field(repr=False)
    finish: Finish | None = None
    suspend: Suspend | None = None
    next: NextClaim | Absent | None = ABSENT


@frozen(kw_only=True)
class SettleMany:
    """Settle turns of any agents of the project."""

    max_items: ClassVar[int] = MAX_ITEMS

    items: tuple[SettleItem, ...]


@frozen(kw_only=True)
class ItemAnswer:
    """The answer that the single route would give to one item."""

    status: int
    body: Any


@frozen(kw_only=True)
class ItemAnswers:
    """One answer per item, by index."""

    items: tuple[ItemAnswer, ...]


@frozen(kw_only=True)
class SettleAnswer(ItemAnswer):
    """The answer to one item, and the answer to the claim of the next turn, if it was requested."""

    next: ItemAnswer | Absent = ABSENT


@frozen(kw_only=True)
class SettleAnswers:
    """One answer per item, by index."""

    items: tuple[SettleAnswer, ...]


REQUESTS.register_structure_hook_func(
    lambda cls: cls is Anchor, lambda value, _: read_anchor(value, "dispatch_key")
)
REQUESTS.register_structure_hook_func(lambda cls: cls is Delay, read_delay)
for _converter in (REQUESTS, ANSWERS, QUICK_ANSWERS):
    _converter.register_structure_hook(RootRequest | ChildDerivation, _read_authority)
    _converter.register_unstructure_hook(RootRequest | ChildDerivation, _write_authority)
