"""An agent for chat interfaces that speak AG-UI: text as it comes, and a question in between.

python examples/ag_ui_chat.py       (it needs cgworker[kernel,ag-ui]; worker-2 dispatches for the interface)
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from cgworker import Turn, Worker
from cgworker.adapters.ag_ui import ag_ui_app

desk = Worker.from_profile("cg-demo/worker-1")
door = Worker.from_profile("cg-demo/worker-2").kernel


@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: dict[str, str]) -> dict[str, str]:
    """Ask before it answers, and write the answer piece by piece."""
    wanted = await turn.ask(bool, "Do you want to know?", key="wanted")
    text = f"You asked: {question.get('task') or question.get('text')}" if wanted else "Then not."
    async with turn.stream() as out:
        for word in text.split(" "):
            await out.write(f"{word} ")
    return {"text": text}


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Run the worker as long as the application."""
    async with desk.kernel, door, anyio.create_task_group() as beside:
        beside.start_soon(desk.run)
        yield
        desk.drain()


chat = ag_ui_app(door, "worker-1", bearer=os.environ.get("AG_UI_BEARER", "s3cret"))
app = Starlette(routes=[Mount("/chat", app=chat)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
