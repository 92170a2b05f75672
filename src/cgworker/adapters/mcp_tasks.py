"""Serve turns as tasks: the extension `io.modelcontextprotocol/tasks` of protocol 2026-07-28.

A task is working while its turn is queued, runs or waits; it needs input while a question is open, and is
completed, failed or cancelled when the turn has succeeded, failed or been stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from cgworker.adapters.mcp_mapping import task_of
from cgworker.adapters.mcp_turns import CallerTurns
from cgworker.errors import InvalidRequest

TASKS = "io.modelcontextprotocol/tasks"
"""The extension's name."""


class TaskParams(RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class UpdateTaskParams(TaskParams):
    """The parameters of `tasks/update`."""

    input_responses: dict[str, dict[str, Any]] = Field(alias="inputResponses")


def takes_tasks(ctx: Any) -> bool:
    """Return True if the client of a request takes tasks.

    Args:
        ctx: the context of the request.
    """
    capabilities = ctx.session.client_capabilities
    is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return is_modern and capabilities is not None and TASKS in (capabilities.extensions or {})


def add_tasks(server: Server[Any], turns_of: Callable[[Any], CallerTurns]) -> None:
    """Add the extension to a server.

    Args:
        server: the server.
        turns_of: returns the turns of a request's caller.
    """

    async def get(ctx: Any, params: TaskParams) -> dict[str, Any]:
        _check(ctx, params)
        found = await turns_of(ctx).find(params.task_id)
        return task_of(found.snapshot, found.questions)

    async def update(ctx: Any, params: UpdateTaskParams) -> dict[str, Any]:
        _check(ctx, params)
        turns = turns_of(ctx)
        found = await turns.find(params.task_id)
        try:
            await turns.answer_all(found.snapshot.turn, params.input_responses)
        except InvalidRequest as invalid:
            raise MCPError(INVALID_PARAMS, str(invalid), {"faults": list(invalid.faults)}) from invalid
        return {}

    async def cancel(ctx: Any, params: TaskParams) -> dict[str, Any]:
        _check(ctx, params)
        turns = turns_of(ctx)
        found = await turns.find(params.task_id)
        if found.snapshot.state != "closed":
            await turns.stop(found.snapshot.turn)
        return {}

    server.extensions[TASKS] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateTaskParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)


def _check(ctx: Any, params: TaskParams) -> None:
    """Refuse a request of another protocol version, or whose client or header says otherwise."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
    require_client_extension(ctx, TASKS)
    routed = None if ctx.request is None else ctx.request.headers.get(MCP_NAME_HEADER)
    if routed is not None and decode_header_value(routed) != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"the header {MCP_NAME_HEADER} names another task than the body")
