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
    """A Python function as a tool; made by `function_tool`."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any] = field(repr=False)
    input_type: Any = field(repr=False)

    async def call(self, turn: Turn, arguments: Any) -> Any:
        """Call it; what goes wrong is a result too, for the model to do something about."""
        try:
            call = partial(self.function, turn, structure_plain(self.input_type, arguments))
            made = call() if inspect.iscoroutinefunction(self.function) else anyio.to_thread.run_sync(call)
            return await made
        except InvalidRequest as unfit:
            return {"error": "invalid_arguments", "faults": list(unfit.faults)}
        except LeaseLost:  # the turn is another worker's now; the model can do nothing about it
            raise
        except Exception as raised:
            return {"error": f"{type(raised).__name__}: {redact(str(raised), turn.secrets)}"}


@frozen(kw_only=True)
class ChildTool:
    """Another agent as a tool: its calls become child turns, and their results go to the model.

    Attributes:
        name: what the model calls it.
        description: what it is for, said to the model.
        agent_id: an agent of the same project.
        parameters: the JSON Schema of the child's input.
        kind: the child's turn kind; the agent must have that capability.
    """

    name: str
    description: str
    agent_id: str
    parameters: Mapping[str, Any] = field(factory=lambda: {"type": "object"})
    kind: str = CONVERSATION_KIND

    def child(self, arguments: Any) -> Child:
        """The turn that a call stands for."""
        return Child(self.agent_id, arguments, kind=self.kind)


Tool = FunctionTool | ChildTool


def function_tool(function: Callable[..., Any], *, name: str | None = None) -> FunctionTool:
    """Make a tool of a function `(turn, arguments)`, typed as a handler is; plain ones run in a thread.

    Args:
        function: the hint of its second parameter is what the model is told to send, its docstring what
            it is for. It runs once for each call of the model, however often the handler begins again.
        name: what the model calls it; by default its own name.

    Raises:
        UsageError: its signature cannot be read.
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
    """The class itself at the top, as endpoints want it, and not a reference to it."""
    top, named = dict(schema), dict(schema.get("$defs", {}))
    if (reference := top.pop("$ref", None)) is not None:
        top = {**named[reference.removeprefix("#/$defs/")], **top}
    return top
