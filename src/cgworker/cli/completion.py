"""Say what a shell may complete a value with: names that the config file or the kernel knows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from attrs import fields

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import CallerFlags, Completion, ServerFlags
from cgworker.client import KernelClient
from cgworker.lifecycle import TurnState
from cgworker.printable import printable
from cgworker.profiles import ConfigFile
from cgworker.wire.projections import AgentEntry, TurnEntry

_MAX_SECONDS = 2.0
_MAX_TURNS = 50

_MAX_DESCRIPTION = 70  # typer wraps a longer one, and fish takes each line for a value

# Characters that mean nothing to a shell. typer's script for zsh evaluates what it gets, and that for bash
# expands it, so a name with others, which an agent chose, could run a command.
_HARMLESS = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_IN_WORDS = str.maketrans(
    {"'": "\u2019", '"': "\u2019", "`": "\u2019", "[": "(", "]": ")", "\\": "/", "$": ""}
)

# The turns that a command can do something with, by its last word; None is any turn.
_STATES: Mapping[str, Sequence[str]] = {
    "answer": (TurnState.SUSPENDED,),
    "decline": (TurnState.SUSPENDED,),
    "resume": (TurnState.SUSPENDED,),
    "stop": (TurnState.QUEUED, TurnState.RUNNING, TurnState.SUSPENDED),
    "tell": (TurnState.QUEUED, TurnState.RUNNING, TurnState.SUSPENDED),
    "redo": (TurnState.CLOSED,),
}

Candidate = tuple[str, str]
"""A value, and what a shell may show beside it."""


def candidates(
    kind: Completion, flags: Mapping[str, Any], incomplete: str = "", *, command: str = ""
) -> Sequence[Candidate]:
    """Return the values for a word of the command line; none if they cannot be read.

    A name that a shell would not take literally is left out.

    Args:
        kind: what the word names.
        flags: the flags that are typed already, by the names of their parameters.
        incomplete: the part of the word that is typed already.
        command: the command's last word, such as `stop`.
    """
    with suppress(Exception):  # a shell has no place for an error
        found = _found(kind, flags, command)
        return [
            (value, description_of(text))
            for value, text in found
            if value.startswith(incomplete) and _HARMLESS.fullmatch(value)
        ]
    return []


def description_of(text: str) -> str:
    """Return a description as every shell can show it: one short line without characters of syntax.

    Args:
        text: the description; it may be an agent's.
    """
    line = printable(" ".join(text[: 4 * _MAX_DESCRIPTION].split()), keep="").translate(_IN_WORDS)
    return line if len(line) <= _MAX_DESCRIPTION else f"{line[: _MAX_DESCRIPTION - 1]}…"


def _found(kind: Completion, flags: Mapping[str, Any], command: str) -> Sequence[Candidate]:
    server = _flags(ServerFlags, flags)
    if kind in ("profile", "project"):
        profiles = ConfigFile.locate(server.config).read().profiles
        named = {name if kind == "profile" else each.project_id: each for name, each in profiles.items()}
        return [(name, "" if kind == "project" else each.display_name or "") for name, each in named.items()]
    return anyio.run(partial(_ask, kind, server, flags, command))


async def _ask(
    kind: Completion, server: ServerFlags, flags: Mapping[str, Any], command: str
) -> Sequence[Candidate]:
    caller = _flags(CallerFlags, flags)
    project_id = project_of(server, flags.get("project_id"), caller)
    with anyio.move_on_after(_MAX_SECONDS):
        async with as_reader(server, caller, project_id) as kernel:
            if kind == "turn":
                return await _turns(kernel, project_id, _STATES.get(command))
            return await _READERS[kind](kernel, project_id)
    return []


def _flags(group: type, flags: Mapping[str, Any]) -> Any:
    given = {each.name: flags.get(each.name) for each in fields(group)}
    return group(**{name: value for name, value in given.items() if value is not None})


async def _agents(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    page = await kernel.projections.agents(project_id)
    return [(agent.agent_id, agent.description or agent.role or "") for agent in page.items]


async def _takers(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    """Return the agents that take turns, with what they do."""
    page = await kernel.projections.agents(project_id, enabled_only=True, accepts_work_only=True)
    return [(agent.agent_id, _purpose_of(agent)) for agent in page.items if agent.capabilities]


def _purpose_of(agent: AgentEntry) -> str:
    offers = agent.public_metadata.get("turn_offers") or ()
    purposes = (str(offer.get("purpose") or "") for offer in offers if isinstance(offer, Mapping))
    return agent.description or next(filter(None, purposes), ", ".join(agent.capabilities))


async def _kinds(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    page = await kernel.projections.turn_offers(project_id)
    return list({offer.turn_kind: offer.purpose or "" for offer in page.items}.items())


async def _turns(kernel: KernelClient, project_id: str, states: Sequence[str] | None) -> Sequence[Candidate]:
    only = states[0] if states and len(states) == 1 else None
    page = await kernel.projections.turns(project_id, state=only, limit=_MAX_TURNS)
    return [(turn.turn_id, _described(turn)) for turn in page.items if states is None or turn.state in states]


def _described(turn: TurnEntry) -> str:
    return f"{turn.outcome or turn.state}, {turn.target_agent_id}"


async def _schedules(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    return [(each.schedule_id, each.cron) async for each in kernel.schedules.all(project_id)]


_READERS: Mapping[Completion, Callable[[KernelClient, str], Awaitable[Sequence[Candidate]]]] = {
    "agent": _agents,
    "taker": _takers,
    "kind": _kinds,
    "schedule": _schedules,
}
