"""Run an agent of pydantic-ai as a handler, on asyncio: `cgworker[pydantic-ai]`.

`pydantic_durability` makes the agent's run part of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from cgworker.adapters.extras import load, require, require_asyncio
from cgworker.adapters.messages import prompt_of
from cgworker.errors import UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.turn import Turn

if TYPE_CHECKING:
    from pydantic_ai.messages import ToolCallPart

    from cgworker.adapters.pydantic_durability import CommonGroundDurability


def no_deps(_turn: Turn) -> None:
    """Return no dependencies."""


@frozen
class PydanticAgent(Adapter["CommonGroundDurability"]):
    """Runs an agent on each turn: `AdapterHandler(PydanticAgent(agent))`.

    The deliverable is the agent's output: `{"text": ...}` if that is a text, else the output as JSON. Text is
    published as it comes, in records of role "progress".

    Args:
        agent: a `pydantic_ai.Agent` with a name. Its toolsets need an id, but for its own tools.
        prompt: returns the prompt; by default the input's text, or the input as JSON.
        deps: returns the agent's dependencies; by default None.
        question_seconds: how long to wait for an approval or a result; None waits for ever.
        shown: returns what is public of a tool call that needs an answer; None shows name and arguments.
        stream: publish the model's text as it comes; False for a model that cannot stream.
        run: further arguments of `agent.run`, such as `{"usage_limits": ...}`.
    """

    agent: Any
    prompt: Callable[[Turn], Any] = field(default=prompt_of, kw_only=True)
    deps: Callable[[Turn], Any] = field(default=no_deps, kw_only=True)
    question_seconds: float | None = field(default=None, kw_only=True)
    shown: Callable[[ToolCallPart], Any] | None = field(default=None, kw_only=True)
    stream: bool = field(default=True, kw_only=True)
    run: Mapping[str, Any] = field(factory=dict, kw_only=True)

    def check(self) -> None:
        """Check the package and that the agent has a name, before the worker starts.

        Raises:
            UsageError: it has no name, or the package is missing.
        """
        require("pydantic_ai", "pydantic-ai")
        if not self.agent.name:
            raise UsageError("the agent needs a name: Agent(..., name='...') names its steps and spans")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[CommonGroundDurability]:
        """Prepare the capability that makes the run part of the turn.

        Args:
            turn: the turn.

        Yields:
            The capability.
        """
        require_asyncio("pydantic-ai")
        await load("cgworker.adapters.pydantic_durability")
        from cgworker.adapters.pydantic_durability import CommonGroundDurability, shown_of

        shown = self.shown or shown_of
        yield CommonGroundDurability(
            turn, question_seconds=self.question_seconds, shown=shown, stream=self.stream
        )

    async def drive(self, turn: Turn, prepared: CommonGroundDurability) -> AsyncGenerator[Any, None]:
        """Run the agent to its end.

        Args:
            turn: the turn.
            prepared: the capability.
        """
        from pydantic_core import to_jsonable_python

        extra = {**self.run, "capabilities": [*self.run.get("capabilities", ()), prepared]}
        result = await self.agent.run(self.prompt(turn), deps=self.deps(turn), **extra)
        output = to_jsonable_python(result.output)
        yield Output({"text": output} if isinstance(output, str) else output)
