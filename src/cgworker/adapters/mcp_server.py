"""Offer a project's agents to MCP clients as tools, on asyncio: `cgworker[mcp]`.

The server keeps no state: a call is a turn, and a task is that turn and has its id. So the server and the
kernel may be restarted at any time.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, TypeAlias

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from cgworker.adapters.mcp_mapping import failed_result, result_of, translated_errors
from cgworker.adapters.mcp_tools import OfferedTool, offered_tools
from cgworker.adapters.messages import text_of
from cgworker.adapters.turn_watch import until_answered, watch_turn
from cgworker.client import KernelClient
from cgworker.client.turns import require_agent
from cgworker.errors import InvalidRequest
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import Dispatch, RootRequest

Context: TypeAlias = ServerRequestContext[Any, Any]


def mcp_server(caller_of: Callable[[Context], KernelClient]) -> Server[Any]:
    """Make a server whose tools are what the agents of a caller's project offer.

    Args:
        caller_of: returns the client for the agent that a request's caller acts as.
    """
    calls = _ToolCalls(caller_of)
    return Server(
        "cgworker",
        version=version("cgworker"),
        on_list_tools=calls.list_tools,
        on_call_tool=calls.call_tool,
    )


class _ToolCalls:
    """Handles the requests about tools."""

    def __init__(self, caller_of: Callable[[Context], KernelClient]) -> None:
        self._caller_of = caller_of

    async def list_tools(self, ctx: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        """Return all tools."""
        tools = await _tools_for(self._caller_of(ctx))
        return ListToolsResult(tools=[each.tool for each in tools.values()])

    async def call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        """Dispatch a turn, and wait for its end."""
        kernel = self._caller_of(ctx)
        tool = (await _tools_for(kernel)).get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        arguments = params.arguments or {}
        if faults := tool.faults_of(arguments):
            return failed_result(str(InvalidRequest(faults)), {"faults": faults})
        with translated_errors():
            turn = await _dispatch(kernel, tool, arguments)
            return await self._wait(ctx, kernel, turn)

    async def _wait(self, ctx: Context, kernel: KernelClient, turn: TurnRef) -> CallToolResult:
        """Report the turn's progress until it is closed; return its result."""
        async with aclosing(watch_turn(kernel, turn)) as news_of_turn:
            async for news in news_of_turn:
                for item in news.items:
                    if item.record.record_role == "progress":
                        await ctx.session.report_progress(item.record.turn_seq, message=text_of(item.payload))
        return result_of(news.snapshot)


async def _tools_for(kernel: KernelClient) -> Mapping[str, OfferedTool]:
    project_id = require_agent(kernel).project_id
    with translated_errors():
        return await until_answered(lambda: offered_tools(kernel, project_id))


async def _dispatch(kernel: KernelClient, tool: OfferedTool, arguments: Mapping[str, Any]) -> TurnRef:
    requester = require_agent(kernel)
    key = f"{owner_prefix(requester)}{uuid.uuid4().hex}"
    dispatch = Dispatch(
        requested_by=requester,
        target_agent=AgentRef(project_id=requester.project_id, agent_id=tool.agent_id),
        input=tool.input_of(arguments),
        turn_kind=tool.turn_kind,
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )
    return await until_answered(lambda: kernel.turns.dispatch(dispatch))


def owner_prefix(caller: AgentRef) -> str:
    """Return what the dispatch keys of a caller's calls begin with.

    Args:
        caller: the agent that the caller acts as.
    """
    return f"mcp:{hashlib.sha256(dumps([caller.project_id, caller.agent_id])).hexdigest()[:16]}:"
