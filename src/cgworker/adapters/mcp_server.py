"""Offer a project's agents to MCP clients as tools, on asyncio: `cgworker[mcp]`.

The server keeps no state: a call is a turn, and a task is that turn and has its id. So the server and the
kernel may be restarted at any time.
"""

from __future__ import annotations

from collections.abc import Callable
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
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from cgworker.adapters.mcp_asking import ask, asking_result, dismissed_result, takes_forms
from cgworker.adapters.mcp_cancelling import Cancelling
from cgworker.adapters.mcp_mapping import failed_result, new_task_of, result_of, translated_errors
from cgworker.adapters.mcp_tasks import add_tasks, takes_tasks
from cgworker.adapters.mcp_turns import CallerTurns
from cgworker.adapters.messages import text_of
from cgworker.adapters.turn_watch import TurnNews, watch_turn
from cgworker.client import KernelClient
from cgworker.errors import InvalidRequest
from cgworker.wire.refs import TurnRef

Context: TypeAlias = ServerRequestContext[Any, Any]

_KEY = "commonground/dispatch-key"  # in a call's _meta: the same call with the same key is the same turn


def mcp_server(caller_of: Callable[[Context], KernelClient]) -> Server[Any]:
    """Make a server whose tools are what the agents of a caller's project offer.

    Args:
        caller_of: returns the client for the agent that a request's caller acts as.
    """

    def turns_of(ctx: Context) -> CallerTurns:
        return CallerTurns(caller_of(ctx))

    cancelling = Cancelling()
    calls = _ToolCalls(turns_of, cancelling)
    server: Server[Any] = Server(
        "cgworker",
        version=version("cgworker"),
        on_list_tools=calls.list_tools,
        get_tool_input_schema=lambda _: (
            None
        ),  # no offer asks for headers; the SDK would list all at each call
    )
    server.add_request_handler("tools/call", CallToolRequestParams, calls.call_tool)
    cancelling.add_to(server)
    add_tasks(server, turns_of)
    return server


class _ToolCalls:
    """Handles the requests about tools."""

    def __init__(self, turns_of: Callable[[Context], CallerTurns], cancelling: Cancelling) -> None:
        self._turns_of = turns_of
        self._cancelling = cancelling

    async def list_tools(self, ctx: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        """Return all tools."""
        tools = await self._turns_of(ctx).tools()
        return ListToolsResult(tools=[each.tool for each in tools.values()])

    async def call_tool(
        self, ctx: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult | dict[str, Any]:
        """Dispatch a turn; return it as a task if the client takes tasks, else wait for its end."""
        turns = self._turns_of(ctx)
        tool = (await turns.tools()).get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        if params.request_state is not None:  # the client comes back with answers
            return await self._go_on(ctx, turns, params)
        arguments = params.arguments or {}
        key = (ctx.meta or {}).get(_KEY)
        try:
            tool.check(arguments)
            turn = await turns.dispatch(tool, arguments, key if isinstance(key, str) else None)
        except InvalidRequest as invalid:  # the model is told, and may call again
            return failed_result(str(invalid), {"faults": list(invalid.faults)})
        if takes_tasks(ctx):
            found = await turns.find(turn.turn_id)
            return {**new_task_of(found.snapshot), "resultType": "task"}
        return await self._wait(ctx, turns, turn)

    async def _go_on(
        self, ctx: Context, turns: CallerTurns, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Answer the questions that the client was asked, and wait again."""
        found = await turns.find(params.request_state or "")
        turn = found.snapshot.turn
        responses = {
            key: each.model_dump(by_alias=True, mode="json")
            for key, each in (params.input_responses or {}).items()
        }
        try:
            await turns.answer_all(turn, responses)
        except InvalidRequest as invalid:
            return asking_result(await turns.find(turn.turn_id), str(invalid))
        if any(each.get("action") == "cancel" for each in responses.values()):
            return dismissed_result(turn)
        return await self._wait(ctx, turns, turn)

    async def _wait(
        self, ctx: Context, turns: CallerTurns, turn: TurnRef
    ) -> CallToolResult | InputRequiredResult:
        """Report the turn's progress, and have its questions answered, until it is closed."""
        watched = watch_turn(turns.kernel, turn)
        with translated_errors():
            async with self._cancelling.stopping(ctx, lambda: turns.stop(turn)), aclosing(watched):
                async for news in watched:
                    await _report(ctx, news)
                    if news.snapshot.state == "closed":
                        return result_of(news.snapshot)
                    if news.questions and takes_forms(ctx):
                        result = await ask(ctx, turns, news)
                        if result is not None:
                            return result
        raise AssertionError("a turn is watched until it is closed")


async def _report(ctx: Context, update: TurnNews) -> None:
    for item in update.items:
        if item.record.record_role == "progress":
            await ctx.session.report_progress(item.record.turn_seq, message=text_of(item.payload))
