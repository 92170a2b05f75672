"""What the ledger and the journal must show of serial keys, schedules and messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cgworker.wire.projections import EventEntry
from tests.soak.harnesses import CALLS
from tests.soak.journal import Run
from tests.soak.traffic import MESSAGE_COUNT

_ENDS = ("turn.finished", "turn.suspended", "turn.claim_reconciled")


def broken_serial_keys(feed: Sequence[EventEntry], keys: Mapping[str, str]) -> Iterable[str]:
    """Of a serial key one turn runs at a time, and a turn's first claim comes after those of earlier turns.

    Args:
        feed: the ledger.
        keys: the serial keys by turn, with their agents.
    """
    running: dict[str, str] = {}
    unclaimed: dict[str, list[str]] = defaultdict(list)
    for event in feed:
        turn = event.subject_id
        if (key := keys.get(turn)) is None:
            continue
        if event.event_type == "turn.spawned":
            unclaimed[key].append(turn)
        elif event.event_type == "turn.claimed":
            if key in running:
                yield f"{turn} was claimed while {running[key]} of {key} ran, at {event.ledger_seq}"
            running[key] = turn
            if turn in unclaimed[key]:
                if unclaimed[key][0] != turn:
                    yield f"{turn} came before {unclaimed[key][0]} of {key}, at {event.ledger_seq}"
                unclaimed[key].remove(turn)
        elif event.event_type in _ENDS:
            running.pop(key, None)


def broken_schedules(feed: Sequence[EventEntry]) -> Iterable[str]:
    """Each instant once, in order, and each with a turn of its own."""
    ticks = [event.annotations for event in feed if event.event_type == "schedule.ticked"]
    instants = [tick["instant"] for tick in ticks]
    if not ticks:
        yield "the schedule never ticked"
    yield from (f"{instant} {count} times" for instant, count in Counter(instants).items() if count > 1)
    if instants != sorted(instants):
        yield "instants out of order"
    spawned = {event.subject_id for event in feed if event.event_type == "turn.spawned"}
    turns = Counter(tick["turn_id"] for tick in ticks)
    yield from (f"{turn} of {count} instants" for turn, count in turns.items() if count > 1)
    yield from (f"{turn} was never dispatched" for turn in turns if turn not in spawned)


def broken_messages(runs: Sequence[Run], told: Iterable[str]) -> Iterable[str]:
    """Each run sees the messages of its turn in order and once; one that is done has seen all."""
    wanted = list(range(MESSAGE_COUNT))
    turns = set(told)
    for run in runs:
        if run.turn_id in turns:
            is_right = run.messages == (wanted if run.done_at else wanted[: len(run.messages)])
            if not is_right:
                yield f"{run.turn_id}: {run.worker} saw {run.messages}"


def repeated_calls(runs_by_turn: Mapping[str, Sequence[Run]]) -> Iterable[str]:
    """An agent makes a call once in a run, and again only if no earlier run made a later one.

    For then it was answered, and the answer was kept. A coding agent (ACP) does not wait until the end of its
    call is kept: if the kernel is away for longer than the lease, it is not told of that call again.

    Args:
        runs_by_turn: the runs of each turn, in the order of their starts.
    """
    for turn, runs in runs_by_turn.items():
        kept = -1
        for run in runs:
            if run.harness == "acp":
                continue
            yield from (f"{turn}: {run.worker} made call {call} again" for call in run.calls if call < kept)
            if len(set(run.calls)) < len(run.calls):
                yield f"{turn}: {run.worker} made {run.calls}"
            kept = max([kept, *run.calls])


def missing_calls(runs_by_turn: Mapping[str, Sequence[Run]]) -> Iterable[str]:
    """An agent has made each call by the time it is done; one that is elsewhere makes its own there.

    Args:
        runs_by_turn: the runs of each turn.
    """
    for turn, runs in runs_by_turn.items():
        made = {call for run in runs for call in run.calls}
        if any(run.done_at and run.harness not in (None, "a2a") for run in runs) and len(made) < len(CALLS):
            yield f"{turn}: of the calls only {sorted(made)}"
