"""A worker inside a Starlette application. It runs as long as the application does.

python examples/starlette_app.py       (Starlette and uvicorn are in cgworker[kernel])
"""

import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cgworker import Turn, Worker

desk = Worker.from_profile("cg-demo/worker-1")
asked: deque[str] = deque(maxlen=10)


@desk.turn("turn.conversation.v1")
async def answer(_: Turn, question: dict[str, str]) -> dict[str, str]:
    """Answer in the event loop of the routes, so that both can use the same objects."""
    asked.append(question["task"])
    return {"text": f"You asked: {question['task']}"}


async def home(_: Request) -> JSONResponse:
    """Show in a browser what the worker does."""
    return JSONResponse({"running": desk.held_count, "last_asked": list(asked)})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Start the worker without waiting for the kernel, and drain it before the application ends."""
    async with desk.kernel, anyio.create_task_group() as beside:
        beside.start_soon(desk.run)
        yield
        desk.drain()  # the block ends when all turns have ended or were handed back


app = Starlette(routes=[Route("/", home)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
