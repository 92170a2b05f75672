"""A worker that MCP clients reach at /mcp, with the bearer "s3cret": each call of its tool is a turn.

python examples/mcp_server.py       (it needs cgworker[kernel,mcp]; worker-2 dispatches for the clients)
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from cgworker import Turn, Worker
from cgworker.adapters.mcp_http import mcp_app
from cgworker.worker.offers import publish_offers

desk = Worker.from_profile("cg-demo/worker-1")
door = Worker.from_profile("cg-demo/worker-2").kernel


@desk.turn("turn.conversation.v1")
async def answer(_: Turn, question: dict[str, str]) -> dict[str, str]:
    """Answer a question; the tool's description is this line."""
    return {"text": f"You asked: {question['task']}"}


mcp = mcp_app(door, bearer=os.environ.get("MCP_BEARER", "s3cret"))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Run the worker and the MCP server as long as the application."""
    async with desk.kernel, door, mcp.router.lifespan_context(mcp), anyio.create_task_group() as beside:
        await publish_offers(desk)
        beside.start_soon(desk.run)
        yield
        desk.drain()


app = Starlette(routes=[Mount("/", app=mcp)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
