"""Explain why a turn is in its state and what would change that, from its feed and its agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime

from attrs import frozen

from cgworker.client import KernelClient
from cgworker.lifecycle import TurnState
from cgworker.wire.absent import ABSENT
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.projections import TurnEntry
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot


@frozen(kw_only=True)
class StoryLine:
    """An event of a turn, in words."""

    at: datetime
    text: str


# What a turn that was suspended with one of these reasons waits for (difference 22).
_SUSPENDED = {
    "worker_shutdown": "a worker that was shut down handed it back; any live worker of {agent} resumes it",
    "worker_retry": "it is to be tried again; any live worker of {agent} resumes it when its time has come",
    "await_time": "it sleeps; any live worker of {agent} resumes it when its time has come",
    "no_handler": "the worker that claimed it handles no {kind}; a worker of {agent} that does resumes it",
    "await_answer": "it has asked something: `cg turn questions` shows what, `cg turn answer` answers it",
    "await_children": "it waits for its children; a live worker of {agent} resumes it when they are closed",
}

_UNTIL_THEN = "a live worker renews it before then; the turn of a dead one is queued again"
_GONE = (
    "the worker is gone or stands still; the kernel's reaper, or `cg worker claim reconcile`, queues it again"
)

_EVENT_TEXTS = {
    "turn.spawned": "{actor} dispatched it",
    "turn.claimed": "{actor} claimed it",
    "turn.suspended": "{actor} put it aside",
    "turn.resumed": "{actor} queued it again",
    "turn.claim_reconciled": "its lease had ended, and {actor} queued it again",
    "turn.told": "{actor} told it something",
    "turn.stop_requested": "{actor} asked for a stop",
    "turn.finished": "{actor} closed it",
}


async def reasons_for(
    kernel: KernelClient, turn: TurnSnapshot, events: Sequence[LedgerEvent]
) -> AsyncIterator[str]:
    """Yield the reasons for a turn's state, and what would change it.

    Args:
        kernel: makes calls under any agent of the project.
        turn: the turn.
        events: the events of its feed.

    Raises:
        KernelRefused, KernelTrouble: a call failed.
    """
    if turn.state == TurnState.QUEUED:
        async for reason in _why_queued(kernel, turn):
            yield reason
    elif turn.state == TurnState.RUNNING:
        yield _why_running(turn, events)
    elif turn.state == TurnState.SUSPENDED:
        yield _why_suspended(turn, events)
    else:
        yield _why_closed(turn, events)
    if turn.stop_requested and turn.state != TurnState.CLOSED:
        at_once = f"; `cg turn resume {turn.turn.turn_id}` has it worked now"
        stop = "a stop is requested: the worker that works it next closes it as stopped"
        yield stop + (at_once if turn.state == TurnState.SUSPENDED else "")
    if lost := sum(event.event_type == "turn.claim_reconciled" for event in events):
        yield f"{_times(lost)} a worker lost it: its lease ended before it was settled"


# ---------------------------------------------------------------- by state


async def _why_queued(kernel: KernelClient, turn: TurnSnapshot) -> AsyncIterator[str]:
    not_before = ABSENT if turn.stop_requested else turn.not_before  # a stop ends the delay
    if isinstance(not_before, datetime) and not_before > datetime.now(UTC):
        yield f"due {_in(not_before)}"
        return
    agent = await kernel.agents.get(turn.target_agent)
    name = agent.agent.agent_id
    if not agent.enabled:
        yield f"{name} is disabled: `cg agent update --agent-id {name} --enable`"
    elif not agent.accepts_work:
        yield f"{name} accepts no work: `cg agent resume --agent-id {name}`"
    running, ahead = await _competitors(kernel, turn)
    if len(running) >= agent.capacity:
        held = ", ".join(other.turn_id for other in running)
        yield f"{name} runs {held} and can run {agent.capacity} at once: `cg agent update --capacity N`"
    if turn.serial_key and (holder := await _holder_of_key(kernel, turn, running)):
        yield f"waits for serial key {turn.serial_key} held by {holder}"
    if ahead:
        yield f"{_count(ahead, 'turn')} of {name} {'was' if ahead == 1 else 'were'} queued before it"
    if turn.priority:
        yield f"its priority is {turn.priority}: higher ones are claimed before it and lower ones after it"
    loop = f"cg worker loop --profile {agent.agent} --command ..."
    yield f"it waits for a worker of {name}: does one run? `{loop}`"


async def _holder_of_key(kernel: KernelClient, turn: TurnSnapshot, running: list[TurnEntry]) -> str | None:
    """Return the running turn of the turn's serial key; None if there is none."""
    for other in running:
        ref = TurnRef(project_id=turn.turn.project_id, turn_id=other.turn_id)
        if (await kernel.turns.get(ref)).serial_key == turn.serial_key:
            return other.turn_id
    return None


async def _competitors(kernel: KernelClient, turn: TurnSnapshot) -> tuple[list[TurnEntry], int]:
    """The agent's running turns, and how many queued ones come before this one, of the newest 500 each."""
    project_id, agent_id = turn.target_agent.project_id, turn.target_agent.agent_id
    running, queued = [
        (await kernel.projections.turns(project_id, target_agent_id=agent_id, state=state, limit=500)).items
        for state in (TurnState.RUNNING, TurnState.QUEUED)
    ]
    number = int(turn.turn.turn_id.removeprefix("T-"))
    return list(running), sum(other.project_turn_seq < number for other in queued)


def _why_running(turn: TurnSnapshot, events: Sequence[LedgerEvent]) -> str:
    holder, since = turn.current_claim_agent_id, _last(events, "turn.claimed")
    text = f"{holder} has worked it for {_ago(since.created_at)}" if since else f"{holder} works it"
    if turn.claim_expires_at is None:
        return text
    left = (turn.claim_expires_at - datetime.now(UTC)).total_seconds()
    if left >= 0:
        return f"{text}; its lease lasts another {left:.0f} s: {_UNTIL_THEN}"
    return f"{text}, but its lease ended {-left:.0f} s ago: {_GONE}"


def _why_suspended(turn: TurnSnapshot, events: Sequence[LedgerEvent]) -> str:
    event = _last(events, "turn.suspended")
    reason, note = _reason_and_note(event)
    agent = turn.target_agent.agent_id
    said = ": ".join(filter(None, [reason, note])) or "without a reason"
    if isinstance(turn.resume_at, datetime):
        answered = "; an answer would wake it before" if reason == "await_answer" else ""
        return f"suspended ({said}): the kernel queues it again {_in(turn.resume_at)}{answered}"
    known = _SUSPENDED.get(reason or "")
    if known:
        return f"suspended ({said}): " + known.format(agent=agent, kind=turn.turn_kind)
    command = f"cg turn resume {turn.turn.turn_id} --requested-by {agent}"
    return f"suspended ({said}); {agent}, or a holder of turn.resume.any, may resume it: `{command}`"


def _why_closed(turn: TurnSnapshot, events: Sequence[LedgerEvent]) -> str:
    event = _last(events, "turn.finished")
    text = "it was stopped" if turn.outcome == "stopped" else f"it {turn.outcome}"
    if event is not None:
        text += f", closed by {event.actor_id} {_ago(event.created_at)} ago"
    payload = turn.final_payload
    if turn.outcome == "failed" and isinstance(payload, dict) and "error" in payload:
        details = [f"{name} {payload[name]}" for name in ("child_exit_code", "message") if name in payload]
        return f"{text}: {payload['error']}" + (f" ({', '.join(details)})" if details else "")
    return text


# ---------------------------------------------------------------- the story


def story_of(turn: TurnRef, events: Sequence[LedgerEvent]) -> Iterator[StoryLine]:
    """Yield the turn's own events that mark its way, in words.

    Args:
        turn: the turn.
        events: the events of its feed.
    """
    for event in events:
        template = _EVENT_TEXTS.get(event.event_type)
        if template is None or event.subject_id != turn.turn_id:
            continue
        said = ": ".join(filter(None, _reason_and_note(event)))
        text = template.format(actor=event.actor_id) + (f" ({said})" if said else "")
        yield StoryLine(at=event.created_at, text=text)


def _reason_and_note(event: LedgerEvent | None) -> tuple[str | None, str | None]:
    caller = (event.annotations.get("caller") if event else None) or {}
    return caller.get("reason"), caller.get("note")


def _last(events: Sequence[LedgerEvent], event_type: str) -> LedgerEvent | None:
    return next((event for event in reversed(events) if event.event_type == event_type), None)


def _ago(instant: datetime) -> str:
    return _span((datetime.now(UTC) - instant).total_seconds())


def _in(instant: datetime) -> str:
    return f"in {_span((instant - datetime.now(UTC)).total_seconds())}"


def _span(seconds: float) -> str:
    seconds = max(seconds, 0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
