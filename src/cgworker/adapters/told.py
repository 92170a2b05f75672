"""What a turn is told, as a harness that works in rounds gets it: before the round that it came before."""

from __future__ import annotations

from typing import Any

from cgworker.turn import Turn
from cgworker.wire.converter import dumps


def text_of(content: Any) -> str:
    """Return a message as text: the text itself, the `text` of an object, or else the JSON.

    Args:
        content: what the turn was told.
    """
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        content = content["text"]
    return content if isinstance(content, str) else dumps(content).decode()


async def new_texts(turn: Turn) -> list[str]:
    """Return what the turn has been told since this was last asked, oldest first.

    Args:
        turn: the turn.
    """
    return [text_of(message.content) async for message in turn.messages(wait=False)]


class RoundMessages:
    """What a turn is told, by rounds that are kept as steps.

    A message that comes during a round belongs to the next one, also when the handler begins again. So the
    messages before a round are kept as a step of their own, `told:<number>`.

    Args:
        turn: the turn.
        rounds: how the steps of the rounds are named, as in "model" for `model:<number>`.
    """

    def __init__(self, turn: Turn, rounds: str) -> None:
        self._turn = turn
        self._rounds = rounds
        self._last_seq = 0

    async def before(self, number: int) -> list[str]:
        """Return what the turn was told before a round and after the one before it, oldest first.

        Args:
            number: the number of the round, from 0.
        """
        steps = [item.payload for item in await self._turn.records("step")]
        keys = {step.get("key") for step in steps if isinstance(step, dict)}
        is_kept = f"told:{number}" in keys
        if not is_kept and f"{self._rounds}:{number}" in keys:
            return []
        told = [] if is_kept else await self._new()
        if is_kept or told:
            told = await self._turn.once(f"told:{number}", lambda: told)
            self._last_seq = told[-1]["turn_seq"]
        return [text_of(each["message"]) for each in told]

    async def _new(self) -> list[dict[str, Any]]:
        return [
            {"turn_seq": message.turn_seq, "message": message.content}
            async for message in self._turn.messages(wait=False)
            if message.turn_seq > self._last_seq
        ]
