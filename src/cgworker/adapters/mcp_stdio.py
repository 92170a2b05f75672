"""Serve MCP on stdin and stdout."""

from __future__ import annotations

from mcp.server.stdio import stdio_server

from cgworker.adapters.mcp_server import mcp_server
from cgworker.client import KernelClient


async def serve_stdio(kernel: KernelClient) -> None:
    """Serve one MCP client on stdin and stdout, until it closes them.

    Args:
        kernel: makes the calls, under the agent that dispatches the turns.
    """
    server = mcp_server(lambda _: kernel)
    async with stdio_server() as (requests, answers):
        await server.run(requests, answers, server.create_initialization_options())
