"""Make the model requests and tool calls of a NanoBot private steps of a turn."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools.base import Tool, ToolResult
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.providers.base import LLMResponse
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from cgworker.adapters.harness import Harness, Tokens
from cgworker.errors import CommonGroundError
from cgworker.outcome import Suspending
from cgworker.wire.converter import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWERS = TypeAdapter(LLMResponse)


class _NotKept(Exception):
    """The model's endpoint failed: that is no answer, and a later attempt asks again."""


class BotSteps:
    """Makes the model requests and tool calls of one bot steps of a turn.

    Args:
        harness: the attempt at the turn.

    Attributes:
        failure: why a step could not be kept. NanoBot tells the model of it, and goes on.
    """

    def __init__(self, harness: Harness) -> None:
        self.failure: BaseException | None = None
        self._harness = harness

    def wrap_provider(self, provider: Any, model: str | None) -> Any:
        """Return the provider, whose answers are steps from now on; the bot is its only user.

        Args:
            provider: the provider.
            model: the model's name, for spans.
        """
        ask = provider.chat_stream_with_retry

        async def chat_stream_with_retry(**asked: Any) -> LLMResponse:
            failed: list[LLMResponse] = []

            async def make() -> Any:
                answer = await ask(**asked)
                if answer.finish_reason == "error":
                    failed.append(answer)
                    raise _NotKept
                return _ANSWERS.dump_python(answer, mode="json")

            with self._noting_failure():
                try:
                    name = asked.get("model") or model
                    return _ANSWERS.validate_python(
                        await self._harness.model(make, name=name, tokens_of=_tokens_of)
                    )
                except _NotKept:
                    return failed[0]

        provider.chat_stream_with_retry = chat_stream_with_retry
        return provider

    def wrap_tool(self, tool: Tool) -> None:
        """Make the calls of a tool steps.

        A call is known by its arguments and by how often they were given: NanoBot does not say its id.

        Args:
            tool: the tool.
        """
        execute: Callable[..., Awaitable[Any]] = tool.execute
        if "execute" in vars(tool):
            return

        async def step(**arguments: Any) -> Any:
            async def make() -> Any:
                result = await execute(**arguments)
                is_error = isinstance(result, ToolResult) and result.is_error
                return {"result": to_jsonable_python(result, fallback=str), "is_error": is_error}

            text = dumps(to_jsonable_python(arguments, fallback=str), sort_keys=True)
            with self._noting_failure():
                kept = await self._harness.tool(
                    tool.name, make, call_id=hashlib.sha256(text).hexdigest()[:12]
                )
            return ToolResult.error(kept["result"]) if kept["is_error"] else kept["result"]

        tool.execute = step

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except (CommonGroundError, Suspending) as failure:
            self.failure = self.failure or failure
            raise


class StepRegistry(ToolRegistry):  # type: ignore[misc]  # the package has no types
    """A bot's tools, whose calls are steps; but not those that give work to other agents.

    Args:
        steps: the steps.
    """

    def __init__(self, steps: BotSteps) -> None:
        super().__init__()
        self._steps = steps

    def register(self, tool: Tool) -> None:
        """Add a tool.

        Args:
            tool: the tool.
        """
        self._steps.wrap_tool(tool)
        super().register(tool)

    def register_delegate(self, tool: Tool) -> None:
        """Add a tool that only notes what is to be given to another agent.

        Args:
            tool: the tool.
        """
        super().register(tool)


def session_json(sessions: Any, key: str) -> Mapping[str, Any]:
    """Return a session of NanoBot as JSON.

    Args:
        sessions: NanoBot's sessions.
        key: the session's key.
    """
    session = sessions.get_or_create(key)
    kept = {name: getattr(session, name) for name in _SESSION_FIELDS}
    return dict(to_jsonable_python(kept, fallback=str))


def restore_session(sessions: Any, key: str, kept: Mapping[str, Any]) -> None:
    """Set a session of NanoBot to what was kept; without anything kept it begins anew.

    Args:
        sessions: NanoBot's sessions.
        key: the session's key.
        kept: what `session_json` returned.
    """
    session = sessions.get_or_create(key)
    session.clear()
    session.metadata = {}
    for name in _SESSION_FIELDS:
        if name in kept:
            setattr(session, name, kept[name])
    sessions.save(session)  # which also removes what NanoBot notes of a message in work


_SESSION_FIELDS = ("messages", "metadata", "last_consolidated")


def _tokens_of(answer: Mapping[str, Any]) -> Tokens:
    usage = answer.get("usage") or {}
    return Tokens(usage.get("input_tokens", 0), usage.get("output_tokens", 0))
