"""Make a run of an agent of pydantic-ai part of a turn, on asyncio: `cgworker[pydantic-ai]`.

Each model request and each tool call is a private step of the turn. A tool that needs approval asks a
question of the turn, and one that is run elsewhere asks for its result; the turn is suspended meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar

from pydantic_ai.capabilities import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    EventStreamHandlerId,
    ExternalEventError,
    ExternalEventWaiter,
    JournalCallableOperationBackend,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    external_event_scope,
    record_durable_unit,
    replay_scope,
)
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ToolCallPart
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolDenied

from cgworker.adapters.harness import Harness, Tokens
from cgworker.durable.stream import Stream
from cgworker.errors import AnswerTimeout, QuestionDeclined
from cgworker.turn import Turn


def shown_of(call: ToolCallPart) -> Any:
    """Return what is public of a tool call that needs an answer: the tool's name, and the arguments.

    Args:
        call: the call.
    """
    return {"tool": call.tool_name, "arguments": call.args_as_dict()}


class CommonGroundDurability(BaseDurabilityCapability[Any]):
    """Makes a run part of a turn: `await agent.run(prompt, capabilities=[CommonGroundDurability(turn)])`.

    A handler that starts again runs the agent again, which then gets what the model and the tools answered
    before. The agent needs a name, and its toolsets an id. Tools run one at a time. A tool cannot ask
    questions of the turn itself: let it need approval, or defer it.

    Args:
        turn: the turn.
        question_seconds: how long to wait for an approval or a result; None waits for ever.
        shown: returns what is public of a tool call that needs an answer.
        stream: publish the model's text as it comes; False for a model that cannot stream.
        answers_deferred: ask for approvals and results as questions of the turn. False leaves that to other
            capabilities, such as `RequestInput`, whose waits are questions of the turn as well.
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="CommonGround",
        durable_unit_noun="step",
        durable_container_noun="turn",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        # A tool that fails or suspends would cancel those beside it between acting and being kept.
        sequential_tools_in_durable_context=True,
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
    )

    def __init__(
        self,
        turn: Turn,
        *,
        question_seconds: float | None = None,
        shown: Callable[[ToolCallPart], Any] = shown_of,
        stream: bool = True,
        answers_deferred: bool = True,
    ) -> None:
        super().__init__(event_stream_handler=self._publish if stream else None)
        self._turn = turn
        self._question_seconds = question_seconds
        self._shown = shown
        self._answers_deferred = answers_deferred
        self._made: Harness | None = None

    @property
    def _harness(self) -> Harness:
        if self._made is None:
            self._made = Harness(self._turn, agent=self.name, question_seconds=self._question_seconds)
        return self._made

    @property
    def in_durable_context(self) -> bool:
        """True: the capability is made for one attempt at a turn."""
        return True

    def get_durable_operation_backend(self) -> _Steps:
        """Return what keeps the results of model requests and tool calls."""
        return _Steps(self._harness, agent_name=self.name, default_model_id=self.default_model_id)

    def get_default_run_id(self) -> str:
        """Return the run's id, the same in each attempt."""
        return f"{self._turn.fingerprint}:{self._turn.step_key('run')}"

    def get_default_conversation_id(self, run_id: str) -> str:  # noqa: ARG002
        """Return the conversation's id, the same in each attempt."""
        return self._turn.fingerprint

    async def wrap_run(self, ctx: RunContext[Any], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Run the agent in a span, with waits that are questions of the turn; record the usage."""
        with external_event_scope(_Questions(self._harness)), replay_scope():
            async with self._harness.running():
                return await super().wrap_run(ctx, handler=handler)

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Ask for all approvals and results that no other capability has given."""
        if not self._answers_deferred:
            return None
        key = self._turn.step_key
        keys = {call.tool_call_id: key(f"approve:{call.tool_call_id}") for call in requests.approvals}
        asked = {keys[call.tool_call_id]: self._shown(call) for call in requests.approvals}
        verdicts = await self._harness.approve(asked)
        approvals: dict[str, Any] = {
            call_id: verdicts[key].granted or ToolDenied(verdicts[key].reason or "")
            for call_id, key in keys.items()
        }
        results = {call.tool_call_id: await self._result_of(call) for call in requests.calls}
        return requests.build_results(approvals=approvals, calls=results)

    async def _result_of(self, call: ToolCallPart) -> Any:
        key = self._turn.step_key(f"result:{call.tool_call_id}")
        try:
            return await self._harness.ask({}, self._shown(call), key=key)
        except (QuestionDeclined, AnswerTimeout) as ended:
            return ToolFailed(str(ended))

    async def _publish(self, _: RunContext[Any], events: AsyncIterable[Any]) -> None:
        """Publish the text of a model's answer as it comes."""
        async with AsyncExitStack() as opened:
            stream: Stream | None = None
            async for event in events:
                if text := _text_in(event):
                    if stream is None:
                        stream = await opened.enter_async_context(self._turn.stream())
                    await stream.write(text)


class _Steps(JournalCallableOperationBackend[None]):
    """Keeps what model requests and tool calls gave, as private steps."""

    def __init__(self, harness: Harness, *, agent_name: str, default_model_id: str | None) -> None:
        config = RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None)
        super().__init__(agent_name=agent_name, default_model_id=default_model_id, config=config)
        self._harness = harness

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,  # noqa: ARG002
    ) -> object:
        """Return the result of an operation, from its step if it has one."""
        was_made = False

        async def make() -> object:
            nonlocal was_made
            was_made = True
            return await body()

        match operation_id:
            case EventStreamHandlerId():  # it only publishes text, which is there already
                return await body()
            case ModelRequestId():
                value = await self._harness.model(make, name=operation_id.model_name, tokens_of=_tokens_of)
            case ToolsetCallToolId():
                tool = next((part for part in cache_key if isinstance(part, str)), name)
                context = next((part for part in cache_key if isinstance(part, RunContext)), None)
                call_id = (context.tool_call_id if context else None) or ""
                value = await self._harness.tool(tool, make, call_id=call_id)
            case _:
                value = await self._harness.keep(name, make)
        record_durable_unit(executed=was_made)
        return value


class _Questions(ExternalEventWaiter):
    """Waits for what is outside the run, as for `RequestInput`, by a question of the turn."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[Any]], timeout: timedelta | None
    ) -> Any:
        """Return what `ask` answers at once, or else the answer to a question of this name."""
        turn = self._harness.turn
        key = turn.step_key(f"wait:{name}")
        if (early := await self._harness.keep(f"{key}:ask", lambda: ask(key))) is not None:
            return early
        try:
            seconds = None if timeout is None else timeout.total_seconds()
            return await turn.ask({}, {"waits_for": name}, key=key, timeout_seconds=seconds)
        except (QuestionDeclined, AnswerTimeout) as ended:
            raise ExternalEventError(str(ended)) from ended


def _tokens_of(answer: Any) -> Tokens:
    usage = answer.get("usage") or {}
    return Tokens(usage.get("input_tokens", 0), usage.get("output_tokens", 0))


def _text_in(event: Any) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
    return ""
