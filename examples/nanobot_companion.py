"""NanoBot's channels before an agent: messages become turns, and the results of the turns become replies.

python examples/nanobot_companion.py    (it needs cgworker[nanobot]; worker-2 dispatches for the channels)

NanoBot's config says which channels there are. The WebSocket channel is always on.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from nanobot.bus.queue import MessageBus
from nanobot.channels.manager import ChannelManager
from nanobot.config.loader import load_config

from cgworker import Turn, Worker, run
from cgworker.adapters.nanobot_companion import NanobotCompanion

door = Worker.from_profile("cg-demo/worker-2").kernel


@asynccontextmanager
async def channels(_: Worker) -> AsyncIterator[None]:
    """Run NanoBot's channels and the companion as long as the worker."""
    bus, config = MessageBus(), load_config()
    config.channels.websocket = {"port": int(os.environ.get("PORT", "8765")), "streaming": False}
    manager = ChannelManager(config, bus)
    async with door, anyio.create_task_group() as beside:
        beside.start_soon(NanobotCompanion(door, "worker-1", bus).run)
        beside.start_soon(manager.start_all)
        yield
        await manager.stop_all()
        beside.cancel_scope.cancel()


desk = Worker.from_profile("cg-demo/worker-1", lifespan=channels)


@desk.turn("turn.conversation.v1")
async def answer(_: Turn, message: dict[str, str]) -> dict[str, str]:
    """Answer. With a `NanobotAdapter` in place of this function, a NanoBot answers."""
    return {"text": f"You asked: {message.get('task') or message.get('text')}"}


if __name__ == "__main__":
    run(desk)
