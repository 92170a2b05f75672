"""Make the model requests of the OpenAI Agents SDK, and the tool calls of its agents, steps of a turn."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from agents import Agent, Handoff, Model, ModelProvider, ModelResponse, RunConfig, Usage
from agents.models.multi_provider import MultiProvider
from agents.tool import Tool
from openai.types.responses import ResponseCompletedEvent, ResponseTextDeltaEvent
from pydantic import TypeAdapter

from cgworker.adapters.harness import Harness, Tokens
from cgworker.adapters.openai_agents_tools import StepTools

_ANSWERS = TypeAdapter(ModelResponse)


class Stepwise:
    """Makes agents whose model requests and tool calls are steps of a turn. The given ones stay as they are.

    Args:
        harness: the turn.
        stream: whether to publish the text of answers as it comes.
    """

    def __init__(self, harness: Harness, *, stream: bool) -> None:
        self._harness = harness
        self._stream = stream
        self._agents: dict[int, Agent[Any]] = {}
        self._tools = StepTools(harness)

    def config(self, given: RunConfig | None) -> RunConfig:
        """Return a run's configuration whose models are steps.

        Args:
            given: the user's configuration, if any.
        """
        given = given or RunConfig()
        model = self.model(given.model, "run") if isinstance(given.model, Model) else given.model
        provider = _Provider(given.model_provider or MultiProvider(), self)
        return dataclasses.replace(given, model=model, model_provider=provider)

    def agent(self, given: Agent[Any]) -> Agent[Any]:
        """Return the agent on steps, with those that it hands over to.

        Args:
            given: the user's agent.
        """
        if (found := self._agents.get(id(given))) is not None:  # agents may hand over to each other
            return found
        model = self.model(given.model, given.name) if isinstance(given.model, Model) else given.model
        made = self._agents[id(given)] = given.clone(
            model=model,
            model_settings=given.model_settings,
            tools=[self._tools.tool(each) for each in given.tools],
        )
        made.handoffs = [
            self.agent(each) if isinstance(each, Agent) else self._handoff(each) for each in given.handoffs
        ]
        list_tools = given.get_mcp_tools

        async def get_mcp_tools(context: Any) -> list[Tool]:
            return [self._tools.tool(each) for each in await list_tools(context)]

        made.get_mcp_tools = get_mcp_tools  # type: ignore[method-assign, assignment]
        return made

    def model(self, inner: Model, name: str) -> Model:
        """Return the model on steps.

        Args:
            inner: the user's model.
            name: its name, for spans.
        """
        return _Model(inner, name, self._harness, self._tools, stream=self._stream)

    def _handoff(self, given: Handoff[Any, Any]) -> Handoff[Any, Any]:
        async def invoke(context: Any, arguments: str) -> Agent[Any]:
            return self.agent(await given.on_invoke_handoff(context, arguments))

        return dataclasses.replace(given, on_invoke_handoff=invoke)


class _Provider(ModelProvider):
    def __init__(self, inner: ModelProvider, stepwise: Stepwise) -> None:
        self._inner = inner
        self._stepwise = stepwise

    def get_model(self, model_name: str | None) -> Model:
        return self._stepwise.model(self._inner.get_model(model_name), model_name or "default")

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Model(Model):
    """A model each of whose answers is a private step; the text is published while it comes."""

    def __init__(self, inner: Model, name: str, harness: Harness, tools: StepTools, *, stream: bool) -> None:
        self._inner = inner
        self._name = name
        self._harness = harness
        self._tools = tools
        self._stream = stream

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        async def ask() -> Any:
            request = self._streamed if self._stream else self._inner.get_response
            answer = await request(*args, **kwargs)
            # By alias, and without what was not set: else the SDK cannot tell pending approvals apart.
            return _ANSWERS.dump_python(answer, mode="json", by_alias=True, exclude_unset=True)

        if self._tools.failure is not None:
            raise self._tools.failure
        answer = await self._harness.model(ask, name=self._name, tokens_of=_tokens_of)
        return _ANSWERS.validate_python(answer)

    async def _streamed(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Return the model's answer, and publish its text as it comes."""
        completed = None
        async with (
            self._harness.stream() as text,
            aclosing(self._inner.stream_response(*args, **kwargs)) as events,  # type: ignore[type-var]
        ):
            async for event in events:
                if isinstance(event, ResponseTextDeltaEvent):
                    await text.write(event.delta)
                elif isinstance(event, ResponseCompletedEvent):
                    completed = event.response
                elif event.type in ("response.failed", "response.incomplete", "error"):
                    raise ModelEndedEarly(event.type)
        if completed is None:
            raise ModelEndedEarly("no response.completed")
        usage = completed.usage
        return ModelResponse(
            output=completed.output,
            usage=Usage()
            if usage is None
            else Usage(
                requests=1,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
                input_tokens_details=usage.input_tokens_details,
                output_tokens_details=usage.output_tokens_details,
            ),
            response_id=completed.id,
        )

    def stream_response(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("the run is not streamed: the text is published from `get_response`")

    def get_retry_advice(self, request: Any) -> Any:
        return self._inner.get_retry_advice(request)


class ModelEndedEarly(Exception):
    """The stream of an answer of the model ended before the answer was complete."""


def _tokens_of(answer: Any) -> Tokens:
    usage = answer["usage"]
    return Tokens(usage.get("input_tokens") or 0, usage.get("output_tokens") or 0)
