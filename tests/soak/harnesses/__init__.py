"""Agents of frameworks for the soak, one module each: a model's answer, a tool call, and another answer.

Each answers with the square of the turn's number. `model1`, `square` and `model2` are its calls. What it
needs beside the worker, such as a model's endpoint or a program of its own, ends with the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from attrs import frozen

from tests.soak.journal import Journal

CALLS = ("model1", "square", "model2")

_PACKAGES = {
    "pydantic_ai": "pydantic_ai",
    "openai_agents": "agents",
    "langgraph": "langgraph",
    "chat": "openai",
    "claude": "claude_agent_sdk",
    "acp": "acp",
    "a2a": "a2a",
    "nanobot": "nanobot",
}
ROOT = Path(__file__).parents[3]


@frozen
class Calls:
    """Makes the calls of a run: notes each in the journal, and takes its time.

    Args:
        journal: the journal's file.
        about: the run, its turn and its worker.
        seconds: how long a call takes.
    """

    journal: str
    about: Mapping[str, str]
    seconds: float

    async def make(self, call: str) -> None:
        """Make a call."""
        self._begin(call)
        await anyio.sleep(self.seconds)  # a kill may come meanwhile
        self._end()

    def make_blocking(self, call: str) -> None:
        """Make a call in a process that does nothing else."""
        self._begin(call)
        time.sleep(self.seconds)  # here too
        self._end()

    def _begin(self, call: str) -> None:
        _journal(self.journal).write("call", number=CALLS.index(call), **self.about)

    def _end(self) -> None:
        _journal(self.journal).write("beat", **self.about)


@frozen
class Run:
    """What an agent's module makes the agent for.

    Args:
        number: the number to square.
        calls: makes its calls.
        ends: what is to be closed with the run.
    """

    number: int
    calls: Calls
    ends: ExitStack

    @property
    def square(self) -> int:
        """What the agent answers."""
        return self.number**2

    def calling_from_threads(self) -> Callable[[str], None]:
        """A function that makes calls on this loop for a thread, until the run ends."""
        loop = asyncio.get_running_loop()

        def make(call: str) -> None:
            made = asyncio.run_coroutine_threadsafe(self.calls.make(call), loop)
            self.ends.callback(made.cancel)
            made.result()

        return make


def absent() -> dict[str, str]:
    """The agents that cannot take part here, and what they lack."""
    lacking = {name: f"no {package}" for name, package in _PACKAGES.items() if find_spec(package) is None}
    if "claude" not in lacking:
        from claude_agent_sdk import ClaudeAgentOptions

        from cgworker.adapters.claude_run import find_cli

        if find_cli(ClaudeAgentOptions()) is None:
            lacking["claude"] = "no Claude Code: this wheel of claude-agent-sdk has none"
    return lacking


@cache
def present() -> list[str]:
    """The agents that take part."""
    lacking = absent()
    return [name for name in _PACKAGES if name not in lacking]


def name_of(number: int) -> str:
    """Which agent works a turn of this number: one after another."""
    return present()[number // 6 % len(present())]


def adapter_for(run: Run) -> Any:
    """The adapter of the agent that works a turn."""
    return import_module(f"{__name__}.{name_of(run.number)}").adapter_for(run)


def load() -> None:
    """Load what the agents need, which takes seconds."""
    for name in present():
        import_module(f"{__name__}.{name}")


@cache
def _journal(path: str) -> Journal:
    return Journal(Path(path))
