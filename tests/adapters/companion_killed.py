"""A companion of NanoBot that gets one message, and kills itself at a point of bringing it to the agent.

python -m tests.adapters.companion_killed URL PROJECT TOKEN FOLDER POINT
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from nanobot.bus.events import InboundMessage
from nanobot.bus.queue import MessageBus

from cgworker import AgentRef, Dispatch, KernelClient, TurnRef
from cgworker.adapters.nanobot_companion import NanobotCompanion, reply_of
from cgworker.client.turns import TurnCalls
from cgworker.wire.turns import TurnSnapshot

POINTS = ("taken", "kept", "dispatched", "closed", "said", "sent")


def message() -> InboundMessage:
    """The message, with the id that its channel gave it."""
    about = {"message_id": "m1"}
    return InboundMessage(channel="test", sender_id="ann", chat_id="7", content="hello", metadata=about)


class Companion(NanobotCompanion):
    """Kills its process at a point."""

    at: Any

    def _keep(self, message: InboundMessage) -> Any:
        self.at("taken")
        kept = super()._keep(message)
        self.at("kept")
        return kept

    async def _say(self, message: InboundMessage, text: str) -> None:
        await super()._say(message, text)
        self.at("said")


async def main(url: str, project: str, token: str, folder: str, point: str) -> None:
    """Take the message, and write what comes into the chat to a file."""

    def at(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    agent = AgentRef(project_id=project, agent_id="door")
    async with KernelClient(url, agent=agent, token=token) as door, anyio.create_task_group() as tasks:
        dispatch = TurnCalls.dispatch

        async def dispatching(calls: TurnCalls, asked: Dispatch) -> TurnRef:
            turn = await dispatch(calls, asked)
            at("dispatched")
            return turn

        def replying(turn: TurnSnapshot) -> str:
            at("closed")
            return reply_of(turn)

        TurnCalls.dispatch = dispatching  # type: ignore[method-assign, assignment]
        bus, place = MessageBus(), Path(folder)
        companion = Companion(door, "desk", bus, folder=place / "kept", reply=replying)
        companion.at = at
        tasks.start_soon(companion.run)
        await bus.publish_inbound(message())
        sent = await bus.consume_outbound()
        (place / "sent").write_text(str(sent.content))
        at("sent")


if __name__ == "__main__":
    anyio.run(partial(main, *sys.argv[1:]))
