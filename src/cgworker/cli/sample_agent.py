"""The sample agent of `cg dev`: it shows progress, answers, and asks back if it is asked to."""

from __future__ import annotations

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.turn import Turn
from cgworker.wire.turns import CONVERSATION_KIND
from cgworker.worker import Worker, WorkerOptions

NAME = "hello"
_PRESENCE_SECONDS = 300.0  # shown as live


@frozen
class Wish:
    """What somebody says to the sample agent."""

    task: str


async def hello(turn: Turn, wish: Wish) -> dict[str, str]:
    """Answers a text. If the text has the word "ask", it asks back."""
    await turn.record({"step": f"reading {len(wish.task.split())} words"})
    if "ask" in wish.task.lower():
        name = await turn.ask(str, "What is your name?", key="name")
        return {"text": f"Nice to meet you, {name}."}
    await anyio.sleep(0.3)  # so that its work can be seen
    return {"text": f"Hello! You said: {wish.task}"}


def sample_worker(kernel: KernelClient) -> Worker:
    """Make the sample agent's worker.

    Args:
        kernel: the kernel, with the agent's identity.
    """
    worker = Worker(kernel, options=WorkerOptions(presence_seconds=_PRESENCE_SECONDS))
    worker.turn(CONVERSATION_KIND)(hello)
    return worker
