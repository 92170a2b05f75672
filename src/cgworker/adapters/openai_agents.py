"""Run an agent of the OpenAI Agents SDK as a handler, on asyncio: `cgworker[openai-agents]`.

`openai_agents_steps` makes its model requests and tool calls steps of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from attrs import field, frozen

from cgworker.adapters.extras import load, require, require_asyncio
from cgworker.adapters.harness import Harness
from cgworker.adapters.messages import prompt_of
from cgworker.handlers.adapter import Adapter, Output
from cgworker.turn import Turn
from cgworker.wire.converter import loads


def no_context(_turn: Turn) -> None:
    """Return no context."""


def shown_of(item: Any) -> Any:
    """Return what is public of a tool call that needs approval: the agent, the tool and the arguments.

    Args:
        item: the `ToolApprovalItem`.
    """
    try:
        arguments = loads(item.arguments or "{}")
    except ValueError:
        arguments = item.arguments
    return {"agent": item.agent.name, "tool": item.name, "arguments": arguments}


@frozen
class DurableAgent(Adapter[Harness]):
    """Runs an agent on each turn: `AdapterHandler(DurableAgent(agent))`.

    The deliverable is the agent's final output: `{"text": ...}` if that is a text, else the output as JSON.
    Each answer's text is published as it comes, in records of role "progress".

    Args:
        agent: an `agents.Agent`. Its handoffs and MCP servers work as they do elsewhere. A `ComputerTool`
            raises `UsageError`: a later attempt has another screen.
        prompt: returns the run's input, a text or a list of items; by default the turn's input as text.
        context: returns the run's context; by default None.
        question_seconds: how long to wait for an approval; None waits for ever.
        shown: returns what is public of a tool call that needs approval; by default agent, tool, arguments.
        stream: publish the text as it comes; False for a model that cannot stream.
        run: further arguments of `Runner.run`, such as `{"max_turns": 20, "run_config": RunConfig(...)}`.
    """

    agent: Any
    prompt: Callable[[Turn], Any] = field(default=prompt_of, kw_only=True)
    context: Callable[[Turn], Any] = field(default=no_context, kw_only=True)
    question_seconds: float | None = field(default=None, kw_only=True)
    shown: Callable[[Any], Any] = field(default=shown_of, kw_only=True)
    stream: bool = field(default=True, kw_only=True)
    run: Mapping[str, Any] = field(factory=dict, kw_only=True)

    def check(self) -> None:
        """Check that the package is there, before the worker starts.

        Raises:
            UsageError: it is missing.
        """
        require("agents", "openai-agents")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Harness]:
        """Prepare the harness; connect the agent's MCP servers yourself, as in the worker's lifespan.

        Args:
            turn: the turn.

        Yields:
            The harness.
        """
        require_asyncio("openai-agents")
        await load("cgworker.adapters.openai_agents_steps")
        yield Harness(turn, agent=self.agent.name, question_seconds=self.question_seconds)

    async def drive(self, turn: Turn, prepared: Harness) -> AsyncGenerator[Any, None]:
        """Run the agent to its end, through its approvals.

        Args:
            turn: the turn.
            prepared: the harness.
        """
        from agents import Runner
        from pydantic_core import to_jsonable_python

        from cgworker.adapters.openai_agents_steps import Stepwise

        stepwise = Stepwise(prepared, stream=self.stream)
        config = stepwise.config(self.run.get("run_config"))
        more = {**self.run, "run_config": config, "context": self.context(turn)}
        agent = stepwise.agent(self.agent)
        async with prepared.running():
            result = await Runner.run(agent, self.prompt(turn), **more)
            while result.interruptions:
                state = await self._decided(turn, prepared, result)
                result = await Runner.run(agent, state, **more)
        output = to_jsonable_python(result.final_output)
        yield Output({"text": output} if isinstance(output, str) else output)

    async def _decided(self, turn: Turn, harness: Harness, result: Any) -> Any:
        """Return the run's state with a decision on each call that needs one."""
        state = result.to_state()
        asked = {turn.step_key(f"approve:{item.call_id}"): item for item in result.interruptions}
        verdicts = await harness.approve({key: self.shown(item) for key, item in asked.items()})
        for key, item in asked.items():
            if verdicts[key].granted:
                state.approve(item)
            else:
                state.reject(item, rejection_message=verdicts[key].reason)
        return state
