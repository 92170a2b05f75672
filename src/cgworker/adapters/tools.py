"""Tools that a model may call: Python functions, and turns of other agents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio.to_thread
from attrs import evolve, field, frozen

from cgworker.durable.children import Child
from cgworker.errors import InvalidRequest, LeaseLost
from cgworker.handlers.signature import signature_of
from cgworker.turn import Turn
from cgworker.wire.converter import structure_plain
from cgworker.wire.schemas import json_schema
from cgworker.wire.turns import CONVERSATION_KIND
from cgworker.worker.redaction import redact


@frozen(kw_only=True)
class FunctionTool:
    """A Python function as a tool; `function_tool` makes it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any] = field(repr=False)
    input_type: Any = field(repr=False)

    async def call(self, turn: Turn, arguments: Any) -> Any:
        """Call the function. An error is a result too, for the model to act on.

        Args:
            turn: the turn.
            arguments: the arguments as the model sent them.

        Raises:
            LeaseLost: the turn's lease was lost.
        """
        try:
            call = partial(self.function, turn, structure_plain(self.input_type, arguments))
            made = call() if inspect.iscoroutinefunction(self.function) else anyio.to_thread.run_sync(call)
            return await made
        except InvalidRequest as unfit:
            return {"error": "invalid_arguments", "faults": list(unfit.faults)}
        except LeaseLost:  # the turn belongs to another worker now; the model cannot help it
            raise
        except Exception as raised:
            return {"error": f"{type(raised).__name__}: {redact(str(raised), turn.secrets)}"}


@frozen(kw_only=True)
class ChildTool:
    """Another agent as a tool: its calls become child turns, and their results go to the model.

    Attributes:
        name: the tool's name.
        description: the tool's purpose, for the model.
        agent_id: an agent of the same project.
        parameters: the JSON Schema of the child's input.
        kind: the child's turn kind; the agent must have it among its capabilities.
    """

    name: str
    description: str
    agent_id: str
    parameters: Mapping[str, Any] = field(factory=lambda: {"type": "object"})
    kind: str = CONVERSATION_KIND

    def child(self, arguments: Any) -> Child:
        """Return the child turn that a call stands for.

        Args:
            arguments: the arguments as the model sent them.
        """
        return Child(self.agent_id, arguments, kind=self.kind)


Tool = FunctionTool | ChildTool


def function_tool(function: Callable[..., Any], *, name: str | None = None) -> FunctionTool:
    """Make a tool of a function `(turn, arguments)`, typed as a handler is; a plain one runs in a thread.

    Args:
        function: the function. The type of its second parameter is what the model must send, its docstring
            describes the tool. It runs once for each call of the model, however often the handler starts
            again.
        name: the tool's name; by default the function's.

    Raises:
        UsageError: the caller's fault: the function's signature cannot be read.
    """
    signature = signature_of(function, set())
    tool = FunctionTool(
        name=name or signature.name.rpartition(".")[2],
        description=inspect.getdoc(function) or "",
        parameters=_inline(json_schema(signature.input_type)),
        function=function,
        input_type=signature.input_type,
    )
    return evolve(tool, description=tool.description or tool.name)


def _inline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with the class at the top in place of a reference, as endpoints require it."""
    top, named = dict(schema), dict(schema.get("$defs", {}))
    if (reference := top.pop("$ref", None)) is not None:
        top = {**named[reference.removeprefix("#/$defs/")], **top}
    return top
