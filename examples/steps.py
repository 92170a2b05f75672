"""A handler of several steps, each done once in the turn's life, whatever happens between them.

Kill it while it works and start it again: the steps that are kept are not done again.

python examples/steps.py
"""

from typing import Any

import anyio
from attrs import frozen

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/worker-1")


@frozen
class Draft:
    """What the first step makes; `returns=` reads it back as this, also on a later attempt."""

    text: str
    words: int


@desk.turn("turn.conversation.v1")
async def publish(turn: Turn, order: dict[str, str]) -> Any:
    """Write, then number; a public record of role `step` is kept of each."""

    async def write() -> Draft:
        await anyio.sleep(0.1)  # a model would think here, and cost money
        text = f"On {order['task']}"
        return Draft(text, len(text.split()))

    draft = await turn.once("draft", write, returns=Draft)
    number = await turn.once("number", lambda: 4711)
    return {"published": draft.text, "words": draft.words, "number": number}


if __name__ == "__main__":
    run(desk)
