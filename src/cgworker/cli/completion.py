"""Say what a shell may complete a value with: names that the config file or the kernel knows."""

from __future__ import annotations

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
from cgworker.profiles import ConfigFile
from cgworker.wire.projections import TurnEntry

_MAX_SECONDS = 2.0
_MAX_TURNS = 50

Candidate = tuple[str, str]
"""A value, and what a shell may show beside it."""


def candidates(kind: Completion, flags: Mapping[str, Any]) -> Sequence[Candidate]:
    """Return the values for a word of the command line; none if they cannot be read.

    Args:
        kind: what the word names.
        flags: the flags that are typed already, by the names of their parameters.
    """
    with suppress(Exception):  # a shell has no place for an error
        server = _flags(ServerFlags, flags)
        if kind == "profile":
            return [(name, "") for name in ConfigFile.locate(server.config).read().profiles]
        return anyio.run(partial(_ask, kind, server, flags))
    return []


async def _ask(kind: Completion, server: ServerFlags, flags: Mapping[str, Any]) -> Sequence[Candidate]:
    caller = _flags(CallerFlags, flags)
    project_id = project_of(server, flags.get("project_id"), caller)
    with anyio.move_on_after(_MAX_SECONDS):
        async with as_reader(server, caller, project_id) as kernel:
            return await _READERS[kind](kernel, project_id)
    return []


def _flags(group: type, flags: Mapping[str, Any]) -> Any:
    given = {each.name: flags.get(each.name) for each in fields(group)}
    return group(**{name: value for name, value in given.items() if value is not None})


async def _agents(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    page = await kernel.projections.agents(project_id)
    return [(agent.agent_id, agent.description or "") for agent in page.items]


async def _turns(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    page = await kernel.projections.turns(project_id, limit=_MAX_TURNS)
    return [(turn.turn_id, _described(turn)) for turn in page.items]


def _described(turn: TurnEntry) -> str:
    return f"{turn.outcome or turn.state}, {turn.target_agent_id}"


async def _schedules(kernel: KernelClient, project_id: str) -> Sequence[Candidate]:
    return [(each.schedule_id, each.cron) async for each in kernel.schedules.all(project_id)]


_READERS: Mapping[Completion, Callable[[KernelClient, str], Awaitable[Sequence[Candidate]]]] = {
    "agent": _agents,
    "turn": _turns,
    "schedule": _schedules,
}
