"""`cg mcp serve`: offer a project's agents as MCP tools."""

from __future__ import annotations

from cgworker.cli.connect import as_actor, worker_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ServerFlags


async def serve(
    server: ServerFlags, project_id: ProfilesProjectId = None, agent_id: ActingAgent = None
) -> None:
    """Offer what the agents of a project do as MCP tools, on stdin and stdout. A call is a turn.

    The turns are dispatched by the agent of --profile.
    """
    actor = worker_agent(server, project_id, agent_id, command_name="cg mcp serve")

    from cgworker.adapters.mcp_stdio import serve_stdio  # needs the extra `mcp`

    async with as_actor(server, actor) as kernel:
        await serve_stdio(kernel)
