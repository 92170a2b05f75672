"""Give the messages to a turn to a harness that works in rounds, each before the round that it preceded."""

from __future__ import annotations

import json
from typing import Any

from cgworker.turn import Turn
from cgworker.wire.converter import dumps


def text_of(content: Any) -> str:
    """Return a message as text: the text itself, the `text` of an object, or else the JSON.

    Args:
        content: the content of the message.
    """
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        content = content["text"]
    return content if isinstance(content, str) else dumps(content).decode()


def prompt_of(turn: Turn) -> str:
    """Return the default prompt of an agent: the input as text, see `text_of`.

    Args:
        turn: the turn.
    """
    return text_of(turn.input)


def is_plain_json(value: Any) -> bool:
    """Return True if no number of a JSON value is beyond a float: clients would read it as null or infinite.

    Args:
        value: the JSON value.
    """
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


async def new_texts(turn: Turn) -> list[str]:
    """Return the messages to the turn since the last call, oldest first.

    Args:
        turn: the turn.
    """
    return [text_of(message.content) async for message in turn.messages(wait=False)]


class RoundMessages:
    """The messages to a turn, by rounds that are stored as steps.

    A message that arrives during a round belongs to the next one, even if the handler starts again. So the
    messages before a round are stored as a step of their own, `told:<number>`.

    Args:
        turn: the turn.
        rounds: the name of the steps of the rounds, as in "model" for `model:<number>`.
    """

    def __init__(self, turn: Turn, rounds: str) -> None:
        self._turn = turn
        self._rounds = rounds
        self._last_seq = 0

    async def before(self, number: int) -> list[str]:
        """Return the messages that arrived after the previous round began, oldest first.

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
