"""Run a model of an OpenAI-compatible chat endpoint as a handler, on asyncio and trio: `cgworker[openai]`.

Each round's answer, and each result of a function, is stored as a private step (`turn.once`). A handler that
starts again after a crash or a suspension finds the conversation as it was, and repeats no request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from cgworker.adapters.chat_stream import EndpointFailed, Message, MessageBuilder, readable
from cgworker.adapters.extras import load, require
from cgworker.adapters.harness import Harness, Tokens
from cgworker.adapters.messages import RoundMessages
from cgworker.adapters.secret import read_key
from cgworker.adapters.tools import ChildTool, FunctionTool, Tool
from cgworker.deprecation import use_old_names, warn_renamed
from cgworker.errors import UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.handlers.environment import mask_for
from cgworker.outcome import fail
from cgworker.turn import Turn
from cgworker.wire.converter import dumps, loads

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def messages_of(turn: Turn) -> list[Message]:
    """Return the default conversation: the input's `messages`, or else its text, or else the input as JSON.

    Args:
        turn: the turn.
    """
    asked = turn.input
    if isinstance(asked, dict) and isinstance(asked.get("messages"), list):
        return list(asked["messages"])
    if isinstance(asked, dict) and isinstance(asked.get("text"), str):
        asked = asked["text"]
    return [{"role": "user", "content": asked if isinstance(asked, str) else dumps(asked).decode()}]


@frozen(kw_only=True)
class ChatAdapter(Adapter["AsyncOpenAI"]):
    """Answers turns with a model: `AdapterHandler(ChatAdapter(model="...", tools=[...]))`.

    The answer's text is streamed into records of role "progress", and is the deliverable `{"text": ...}`.
    What the turn is told meanwhile is a message of the user before the model's next round.
    If the model refuses to answer, the turn fails with `model_refused` and the model's words.

    Args:
        model: the model's name at the endpoint.
        base_url: the address of the endpoint, such as `http://127.0.0.1:11434/v1`; None means OpenAI's own.
        system: a system message that precedes the conversation.
        tools: the tools that the model may call.
        messages: returns the conversation; by default `messages_of`.
        max_rounds: the most requests of one turn; after them it fails with `too_many_rounds`.
        retries: how often a request is repeated after a failure that may be temporary. A Retry-After of up
            to 120 s is followed; after a longer one the request is not repeated, and the turn fails.
        timeout_seconds: how long the endpoint may be silent.
        api_key_env: the variable with the API key.
        api_key_file: a file of this user alone (mode 0600) with the key; it takes precedence over the
            variable.
        parameters: further parameters of each request, such as `{"temperature": 0}`.
    """

    model: str
    base_url: str | None = None
    system: str | None = None
    tools: Sequence[Tool] = ()
    messages: Callable[[Turn], list[Message]] = messages_of
    max_rounds: int = 16
    retries: int = 5
    timeout_seconds: float = 120.0
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: Path | None = None
    parameters: dict[str, Any] = field(factory=dict)

    _old_max_rounds: int | None = field(default=None, alias="most_rounds", kw_only=True, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        use_old_names(self)

    @property
    def most_rounds(self) -> int:
        """The old name of `max_rounds`; deprecated."""
        warn_renamed("ChatAdapter.most_rounds", "max_rounds")
        return self.max_rounds

    def check(self) -> None:
        """Check that the package and the key are there, before the worker starts.

        Raises:
            UsageError: one is missing.
        """
        require("openai", "openai")
        self._api_key()

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[AsyncOpenAI]:  # noqa: ARG002
        """Open connections to the endpoint for one turn.

        Args:
            turn: the turn.

        Yields:
            The client.
        """
        require("openai", "openai")
        await load("openai")
        from openai import AsyncOpenAI

        async with AsyncOpenAI(
            api_key=self._api_key(),
            base_url=self.base_url,
            max_retries=self.retries,
            timeout=self.timeout_seconds,
        ) as client:
            yield client

    async def drive(self, turn: Turn, prepared: AsyncOpenAI) -> AsyncGenerator[Any, None]:
        """Send the conversation and answer the model's calls, until it makes no more.

        Args:
            turn: the turn.
            prepared: the client.
        """
        harness = Harness(turn, agent="chat")
        async with harness.running():
            result = await self._talk(harness, prepared)
        yield Output(result)

    async def _talk(self, harness: Harness, prepared: AsyncOpenAI) -> Any:
        turn = harness.turn
        conversation, told = [*self._said_first(), *self.messages(turn)], RoundMessages(turn, "model")
        conversation.extend(_user_messages(await told.before(0)))
        for number in range(self.max_rounds):
            ask = _ModelRequest(self, prepared, turn, conversation).ask
            answer = await harness.model(ask, name=self.model, tokens_of=_tokens_of, key=f"model:{number}")
            calls = answer.get("tool_calls") or []
            results = await self._answer(harness, number, calls)
            is_last = number + 1 == self.max_rounds
            news = [] if is_last else _user_messages(await told.before(number + 1))
            if not calls and not news:
                return _result_of(answer)
            said = {name: value for name, value in answer.items() if name != "usage"}
            conversation += [said, *results, *news]
        return fail({"error": "too_many_rounds", "rounds": self.max_rounds})

    # ------------------------------------------------------------ the model's calls

    async def _answer(self, harness: Harness, number: int, calls: list[Any]) -> list[Message]:
        """Return the results of a round's calls: functions run one by one, then all child turns at once."""
        turn, found = harness.turn, {tool.name: tool for tool in self.tools}
        results: list[Any] = [None] * len(calls)
        children = {}
        for index, call in enumerate(calls):
            key = f"{number}:{index}:{call['function']['name']}"
            tool, arguments = found.get(call["function"]["name"]), _arguments_of(call)
            if tool is None or arguments is None:
                results[index] = {"error": "no such tool" if tool is None else "arguments are no JSON object"}
            elif isinstance(tool, FunctionTool):
                act = partial(tool.call, turn, arguments)
                results[index] = await harness.tool(tool.name, act, call_id=call["id"], key=f"tool:{key}")
            elif isinstance(tool, ChildTool):
                children[key] = (index, tool.child(arguments))
        if children:
            ended = await turn.children({key: child for key, (_, child) in children.items()})
            for key, (index, _) in children.items():
                results[index] = {"outcome": ended[key].outcome, "payload": ended[key].payload}
        return [_tool_message(call, result) for call, result in zip(calls, results, strict=True)]

    def _said_first(self) -> Iterable[Message]:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def _api_key(self) -> str:
        if key := read_key(self.api_key_file, self.api_key_env):
            return key
        raise UsageError(
            f"there is no API key: set {self.api_key_env}, or give api_key_file= (with any text for an"
            " endpoint that needs none)"
        )


@frozen
class _ModelRequest:
    """One request to the model, with the conversation so far."""

    adapter: ChatAdapter
    client: AsyncOpenAI
    turn: Turn
    conversation: list[Message]

    async def ask(self) -> Message:
        """Return the model's message, assembled from the stream."""
        from openai import OpenAIError

        try:
            return await self._stream()
        except OpenAIError as error:
            message = f"{type(error).__name__}: {error}{_retry_hint(error)}"
        except EndpointFailed as error:
            message = str(error)
        # Some endpoints repeat the key in their error messages.
        raise EndpointFailed(mask_for([self.client.api_key])(message)) from None

    async def _stream(self) -> Message:
        offered: dict[str, Any] = {"tools": [_offer(tool) for tool in self.adapter.tools]}
        create: Any = self.client.chat.completions.create  # it is typed for its own classes of messages
        stream = await create(
            model=self.adapter.model,
            messages=self.conversation,
            stream=True,
            **(offered if self.adapter.tools else {}),
            **self.adapter.parameters,
        )
        message = MessageBuilder()
        async with stream, self.turn.stream() as text, aclosing(readable(stream)) as chunks:
            async for chunk in chunks:
                await text.write(message.add(chunk))
        return message.build()


def _user_messages(texts: Iterable[str]) -> list[Message]:
    return [{"role": "user", "content": text} for text in texts]


def _retry_hint(error: Any) -> str:
    """Return how long the endpoint asks to wait, if it does."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    return f" (Retry-After: {headers['retry-after']})" if "retry-after" in headers else ""


def _result_of(answer: Message) -> Any:
    """Return the text, and a finish reason other than "stop", such as "length"; or the refusal."""
    if "refusal" in answer:
        return fail({"error": "model_refused", "refusal": answer["refusal"]})
    reason = {"finish_reason": answer["finish_reason"]} if "finish_reason" in answer else {}
    return {"text": answer["content"], **reason}


def _offer(tool: Tool) -> Message:
    described = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": described}


def _arguments_of(call: Message) -> dict[str, Any] | None:
    try:
        arguments = loads(call["function"]["arguments"] or "{}")
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def _tokens_of(answer: Message) -> Tokens:
    return Tokens(**answer.get("usage", {}))


def _tool_message(call: Message, result: Any) -> Message:
    content = result if isinstance(result, str) else dumps(result).decode()
    return {"role": "tool", "tool_call_id": call["id"], "content": content}
