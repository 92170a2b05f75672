"""A harness on steps: what the adapter of an agent framework needs of a turn.

Model requests and tool calls become private steps, approvals become questions, usage becomes a record, and
spans are named by OpenTelemetry's conventions for generative AI. A handler that starts again makes the same
calls in the same order, and gets what an earlier attempt got.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
from attrs import define, frozen

from cgworker.durable.stream import Stream
from cgworker.errors import AnswerTimeout, QuestionDeclined, UsageError
from cgworker.turn import Turn
from cgworker.worker.telemetry.tracer import handler_tracer

USAGE_ROLE = "usage"
"""The role of the record that says how much the model was used."""


@define
class Usage:
    """How much a model was used in a turn, over all attempts.

    Attributes:
        requests: how many requests were answered.
        input_tokens: the tokens that it read.
        output_tokens: the tokens that it wrote.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@frozen
class Tokens:
    """The tokens of one answer of a model.

    Attributes:
        input: the tokens that it read.
        output: the tokens that it wrote.
    """

    input: int = 0
    output: int = 0


@frozen
class Verdict:
    """Whether an action was approved.

    Attributes:
        granted: whether it was.
        reason: why it was not, fit for the model; None if it was.
    """

    granted: bool
    reason: str | None = None


def no_tokens(_answer: Any) -> Tokens:
    """Return no tokens, for a model that does not tell them."""
    return Tokens()


class Harness:
    """One attempt at a turn, for the adapter of an agent framework. It works on asyncio and on trio.

    Args:
        turn: the turn.
        agent: the agent's name, for spans.
        provider: the model's provider, such as "openai", for spans; None if it is not known.
        question_seconds: how long to wait for an answer to a question; None waits for ever.

    Attributes:
        turn: the turn.
        usage: how much the model was used so far, earlier attempts included.
    """

    def __init__(
        self, turn: Turn, *, agent: str, provider: str | None = None, question_seconds: float | None = None
    ) -> None:
        self.turn: Turn = turn
        self.usage: Usage = Usage()
        self._agent = agent
        self._provider = provider
        self._question_seconds = question_seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the agent in the block, in a span; record the usage at the end if the agent came to one."""
        is_recorded = bool(await self.turn.records(USAGE_ROLE))  # before the run, so that none are to be read
        with self._span("invoke_agent", self._agent, {"gen_ai.agent.name": self._agent}) as note:
            try:
                yield
            finally:
                note(_usage_attributes(self.usage.input_tokens, self.usage.output_tokens))
        if self.usage.requests and not is_recorded:
            await self.turn.record(self.usage, USAGE_ROLE)

    # ------------------------------------------------------------ steps

    async def model(
        self,
        make: Callable[[], Any],
        *,
        name: str | None = None,
        tokens_of: Callable[[Any], Tokens] = no_tokens,
        key: str | None = None,
    ) -> Any:
        """Return a model's answer: asked once, kept as a private step.

        Args:
            make: asks the model, and returns the answer as JSON; may be async.
            name: the model's name, for the span.
            tokens_of: returns the tokens of an answer.
            key: the key of the step; by default `model#1`, `model#2` and so on.
        """
        ask = partial(self._ask_model, make, name, tokens_of)
        key = key or self.turn.step_key("model")
        answer = await self.turn.once(key, ask, private=True, ahead=True, acts=False)
        tokens = tokens_of(answer)
        self.usage.requests += 1
        self.usage.input_tokens += tokens.input
        self.usage.output_tokens += tokens.output
        return answer

    async def _ask_model(
        self, make: Callable[[], Any], name: str | None, tokens_of: Callable[[Any], Tokens]
    ) -> Any:
        attributes = {} if name is None else {"gen_ai.request.model": name}
        with self._span("chat", name, attributes) as note:
            answer = await _made(make)
            tokens = tokens_of(answer)
            note(_usage_attributes(tokens.input, tokens.output))
        return answer

    async def tool(
        self, name: str, make: Callable[[], Any], *, call_id: str = "", key: str | None = None
    ) -> Any:
        """Return the result of a tool call: done once, kept as a private step.

        The worker may die after the tool has acted and before its result is kept; the tool then acts again.

        Args:
            name: the tool's name.
            make: calls the tool, and returns the result as JSON; may be async.
            call_id: the call's id, as the model gave it; calls that run at once need one. Not all models
                give each call another, so calls of one id are counted.
            key: the key of the step; by default `tool:<name>:<call id>#1` and so on.
        """
        key = key or self.turn.step_key(f"tool:{name}:{call_id}" if call_id else f"tool:{name}")
        call = partial(self._call_tool, name, make, call_id)
        return await self.turn.once(key, call, private=True, ahead=True)

    async def _call_tool(self, name: str, make: Callable[[], Any], call_id: str) -> Any:
        attributes = {"gen_ai.tool.name": name} | ({"gen_ai.tool.call.id": call_id} if call_id else {})
        with self._span("execute_tool", name, attributes):
            return await _made(make)

    def note_tool(self, name: str, call_id: str, *, began_ns: int, has_failed: bool = False) -> None:
        """Make the span of a tool call that the agent made itself, if the worker is instrumented.

        Args:
            name: the tool's name.
            call_id: the call's id.
            began_ns: when it began, in nanoseconds since 1970.
            has_failed: whether it failed.
        """
        if (tracer := handler_tracer.get()) is not None:
            attributes = self._common("execute_tool") | {
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.id": call_id,
                **({"error.type": "tool_error"} if has_failed else {}),
            }
            tracer.start_span(f"execute_tool {name}", attributes=attributes, start_time=began_ns).end()

    async def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, made once and kept as the next private step of this name.

        Args:
            name: what the steps have in common; their keys are `name#1`, `name#2` and so on.
            make: returns a JSON value; may be async.
        """
        return await self.turn.once(self.turn.step_key(name), make, private=True)

    async def kept(self, name: str) -> list[Any]:
        """Return what earlier attempts kept under a name, in order; `keep` then goes on after these.

        Args:
            name: the name.
        """
        steps = [item.payload for item in await self.turn.records("step")]
        keys = {step.get("key") for step in steps if isinstance(step, Mapping)}
        values: list[Any] = []
        while f"{name}#{len(values) + 1}" in keys:
            values.append(await self.keep(name, _not_kept))
        return values

    # ------------------------------------------------------------ questions

    async def approve(self, asked: Mapping[str, Any]) -> dict[str, Verdict]:
        """Return whether actions are approved; all are asked for at once, as questions of the turn.

        The turn is suspended until all have an answer. An answer of false, a declined question and one
        that nobody answered in time are refusals.

        Args:
            asked: what is to be approved, by the key of its question; public, the same in every attempt.
        """
        verdicts: dict[str, Verdict] = {}

        async def judge(key: str, shown: Any) -> None:
            verdicts[key] = await self._judge(key, shown)

        with _as_one():
            async with anyio.create_task_group() as tasks:
                for key, shown in asked.items():
                    tasks.start_soon(judge, key, shown)
        return {key: verdicts[key] for key in asked}

    async def _judge(self, key: str, shown: Any) -> Verdict:
        try:
            granted = await self.ask(bool, shown, key=key)
        except QuestionDeclined as declined:
            return Verdict(False, declined.reason or "It was refused.")
        except AnswerTimeout:
            return Verdict(False, "Nobody approved it in time.")
        return Verdict(True) if granted else Verdict(False, "It was refused.")

    async def ask(self, schema: Any, question: Any, *, key: str) -> Any:
        """Ask a question, and return the answer; the turn is suspended until there is one.

        Args:
            schema: the type of the answer, as for `turn.ask`.
            question: what is asked; public, and the same in every attempt.
            key: names the question within the turn.

        Raises:
            QuestionDeclined: it was declined.
            AnswerTimeout: nobody answered within `question_seconds`.
        """
        return await self.turn.ask(schema, question, key=key, timeout_seconds=self._question_seconds)

    # ------------------------------------------------------------ text and spans

    def stream(self) -> AbstractAsyncContextManager[Stream]:
        """Publish the model's text as it comes, in few records, as `turn.stream()` does."""
        return self.turn.stream()

    @contextmanager
    def _span(
        self, operation: str, subject: str | None, attributes: Mapping[str, Any]
    ) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Make a span around the block, if the worker is instrumented; yield what sets its attributes."""
        tracer = handler_tracer.get()
        if tracer is None:
            yield lambda _: None
            return
        with tracer.start_as_current_span(
            f"{operation} {subject}" if subject else operation,
            attributes={**self._common(operation), **attributes},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span.set_attributes
            except Exception as raised:  # its text may hold a payload
                span.set_attribute("error.type", type(raised).__qualname__)
                raise

    def _common(self, operation: str) -> dict[str, Any]:
        """Return the attributes that all spans have."""
        provider = {"gen_ai.provider.name": self._provider} if self._provider else {}
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.conversation.id": str(self.turn.ref),
            **provider,
        }


async def _made(make: Callable[[], Any]) -> Any:
    made = make()
    return await made if inspect.isawaitable(made) else made


def _not_kept() -> None:
    raise UsageError("a step that has a record was asked to be made")  # with "redo", its value is lost


def _usage_attributes(input_tokens: int, output_tokens: int) -> Mapping[str, Any]:
    if not input_tokens and not output_tokens:  # it is not known
        return {}
    return {"gen_ai.usage.input_tokens": input_tokens, "gen_ai.usage.output_tokens": output_tokens}


@contextmanager
def _as_one() -> Iterator[None]:
    """Raise the first exception of a group by itself: frameworks know what to do with `Suspending` alone."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
