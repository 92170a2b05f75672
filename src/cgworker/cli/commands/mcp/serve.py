"""`cg mcp serve`: offer a project's agents as MCP tools."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from attrs import evolve, frozen

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ServerFlags
from cgworker.errors import UsageError

_COMMAND = "cg mcp serve"


@frozen(kw_only=True)
class HttpFlags:
    """The flags of a server over HTTP; without --port it serves one client on stdin and stdout."""

    port: Annotated[
        int | None,
        Flag(
            "--port", min=0, max=65535, metavar="N", help="Serve streamable HTTP on this port; 0: a free one."
        ),
    ] = None
    host: Annotated[str, Flag("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1"
    bearer_file: Annotated[
        str | None,
        Flag("--bearer-file", metavar="FILE", help="The bearer with which HTTP clients act as --profile."),
    ] = None
    callers: Annotated[
        list[str] | None,
        Flag(
            "--caller",
            metavar="PROFILE=FILE",
            help="The profile of clients whose bearer is in FILE; repeat for more.",
        ),
    ] = None
    allowed_hosts: Annotated[
        list[str] | None,
        Flag("--allowed-host", metavar="NAME", help="A host name to answer to, besides loopback names."),
    ] = None
    allowed_origins: Annotated[
        list[str] | None,
        Flag("--allowed-origin", metavar="ORIGIN", help="An origin of web pages that may call."),
    ] = None


async def serve(
    server: ServerFlags,
    http: HttpFlags,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> None:
    """Offer what the agents of a project do as MCP tools: a call is a turn.

    The turns are dispatched by the agent of --profile, which needs the grants turn.resume.any to answer their
    questions and turn.stop.any to cancel them. It serves one client on stdin and stdout; with --port, many
    over HTTP, each with a bearer.
    """
    actor = acting_agent(server, project_id, agent_id, command_name=_COMMAND)
    async with as_actor(server, actor) as kernel, AsyncExitStack() as stack:
        if http.port is None:
            from cgworker.adapters.mcp_stdio import serve_stdio  # needs the extra `mcp`

            return await serve_stdio(kernel)

        from cgworker.adapters.mcp_http import mcp_app, serve_http

        callers = {}
        for caller in http.callers or ():
            profile, _, file = caller.partition("=")
            as_caller = evolve(server, profile=profile)
            agent = acting_agent(as_caller, None, None, command_name=_COMMAND)
            callers[_secret(file)] = await stack.enter_async_context(as_actor(as_caller, agent))
        app = mcp_app(
            kernel,
            bearer=_secret(http.bearer_file) if http.bearer_file else None,
            callers=callers,
            allowed_hosts=http.allowed_hosts or (),
            allowed_origins=http.allowed_origins or (),
        )
        return await serve_http(app, http.host, http.port)


def _secret(file: str) -> str:
    from cgworker.adapters.secret import read_key

    secret = read_key(Path(file), None) if file else None
    if secret is None:
        raise UsageError(f"{_COMMAND} --caller needs PROFILE=FILE")
    return secret
