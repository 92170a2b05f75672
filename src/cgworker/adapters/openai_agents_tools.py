"""Make the tool calls of the OpenAI Agents SDK steps of a turn."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from agents.tool import (
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    HostedMCPTool,
    LocalShellTool,
    MCPToolApprovalRequest,
    ShellResult,
    ShellTool,
    Tool,
)
from agents.tool_context import ToolContext
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from cgworker.adapters.harness import Harness
from cgworker.errors import CommonGroundError, UsageError

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_SHELL: TypeAdapter[Any] = TypeAdapter(str | ShellResult)
_PATCH: TypeAdapter[Any] = TypeAdapter(ApplyPatchResult | str | None)


class ToolFailed(Exception):
    """A tool failed, now or in an earlier attempt; the SDK tells the model the text."""


class StepTools:
    """Makes tools whose calls are steps of a turn.

    They run one at a time: one that failed would cancel those beside it after they acted.

    Args:
        harness: the turn.

    Attributes:
        failure: why a call could not be kept; None if all were. The SDK tells the model, and goes on.
    """

    def __init__(self, harness: Harness) -> None:
        self.failure: Exception | None = None
        self._harness = harness
        self._acting = anyio.Lock(fast_acquire=True)

    def tool(self, given: Tool) -> Tool:
        """Return the tool on steps; what the model's provider runs, within the answer, stays as it is.

        Args:
            given: the user's tool.

        Raises:
            UsageError: its calls cannot be kept.
        """
        match given:
            case FunctionTool():

                async def invoke(context: ToolContext[Any], arguments: str) -> Any:
                    act = partial(given.on_invoke_tool, context, arguments)
                    return await self._step(given.name, partial(_json_of, act), context.tool_call_id)

                return dataclasses.replace(given, on_invoke_tool=invoke)
            case CustomTool():

                async def invoke_custom(context: ToolContext[Any], said: str) -> Any:
                    act = partial(given.on_invoke_tool, context, said)
                    return await self.call(given.name, act, context.tool_call_id)

                return dataclasses.replace(given, on_invoke_tool=invoke_custom)
            case LocalShellTool() | ShellTool() if (execute := given.executor) is not None:

                async def run(asked: Any) -> Any:
                    return await self.call(given.name, partial(execute, asked), asked.data.call_id, _SHELL)

                return dataclasses.replace(given, executor=run)
            case HostedMCPTool():
                return self._hosted(given)
            case ApplyPatchTool():
                return dataclasses.replace(given, editor=_StepEditor(self, given))
            case ComputerTool():
                raise UsageError("DurableAgent: a later attempt has another screen; leave out ComputerTool")
        return given

    def _hosted(self, given: HostedMCPTool) -> HostedMCPTool:
        """Return a tool that the model's provider calls; a function that approves a call is a step."""
        if (decide := given.on_approval_request) is None:
            return given

        async def decided(asked: MCPToolApprovalRequest) -> Any:
            act = partial(decide, asked)
            return await self._step(given.name, partial(_json_of, act), asked.data.id)

        return dataclasses.replace(given, on_approval_request=decided)

    async def call(
        self, name: str, act: Callable[[], Any], call_id: str, results: TypeAdapter[Any] = _ANY
    ) -> Any:
        """Return what a tool returned, or raise that it failed: the model reads both, so both are kept.

        Args:
            name: the tool's name.
            act: calls the tool.
            call_id: the call's id; "" if the SDK does not tell it.
            results: what the tool may return.

        Raises:
            ToolFailed: the tool failed.
        """

        async def make() -> Any:
            try:
                return {"result": results.dump_python(await _made(act), mode="json")}
            except CommonGroundError:
                raise
            except Exception as failed:
                return {"error": str(failed) or type(failed).__name__}

        try:
            kept = await self._step(name, make, call_id)
        except Exception as failure:
            self.failure = self.failure or failure
            raise
        if "error" in kept:
            raise ToolFailed(kept["error"])
        return results.validate_python(kept["result"])

    async def _step(self, name: str, make: Callable[[], Any], call_id: str) -> Any:
        async with self._acting:  # the first in line is the first that the model asked for
            return await self._harness.tool(name, make, call_id=call_id)


class _StepEditor:
    """An editor each of whose operations is a step."""

    def __init__(self, tools: StepTools, given: ApplyPatchTool) -> None:
        self._tools = tools
        self._given = given

    async def create_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit(self._given.editor.create_file, operation)

    async def update_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit(self._given.editor.update_file, operation)

    async def delete_file(self, operation: ApplyPatchOperation) -> Any:
        return await self._edit(self._given.editor.delete_file, operation)

    async def _edit(self, edit: Callable[[ApplyPatchOperation], Any], operation: ApplyPatchOperation) -> Any:
        return await self._tools.call(self._given.name, partial(edit, operation), "", _PATCH)


async def _json_of(act: Callable[[], Any]) -> Any:
    return to_jsonable_python(await _made(act))


async def _made(act: Callable[[], Any]) -> Any:
    made = act()
    return await made if inspect.isawaitable(made) else made
