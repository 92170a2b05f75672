"""A handler with two steps. A step that was kept is not done again in its turn, even after a crash.

Kill the worker while it works, and start it again. It does only the steps that have no record.

python examples/steps.py
"""

from typing import Any

import anyio
from attrs import frozen

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/worker-1")


@frozen
class Draft:
    """The result of the first step. `returns=Draft` reads it back, also on a later attempt."""

    text: str
    words: int


@desk.turn("turn.conversation.v1")
async def publish(turn: Turn, order: dict[str, str]) -> Any:
    """Write, then number. Each step is kept as a public record of role `step`."""

    async def write() -> Draft:
        await anyio.sleep(0.1)  # here a model would think, and cost money
        text = f"On {order['task']}"
        return Draft(text, len(text.split()))

    draft = await turn.once("draft", write, returns=Draft)
    number = await turn.once("number", lambda: 4711)
    return {"published": draft.text, "words": draft.words, "number": number}


if __name__ == "__main__":
    run(desk)
