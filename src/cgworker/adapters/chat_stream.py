"""A chat model's message, put together from the pieces of its stream.

Endpoints differ in what they send: pieces without choices or without a delta, an error in the middle, calls
that share an index. What cannot be understood is the endpoint's failure, with its own words, and never an
error of Python's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from cgworker.wire.converter import dumps

Message = dict[str, Any]

_WORDS = ("error", "message", "detail")  # where endpoints say what is wrong
_MOST_CHARACTERS = 2000


class EndpointFailed(Exception):
    """The endpoint refused, broke off, or stayed unreachable in all retries; the text names no secret."""


async def readable(stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """The stream's pieces.

    Raises:
        OpenAIError: the endpoint refused.
        EndpointFailed: it sent what is no JSON, or the connection broke.
    """
    from openai import OpenAIError

    try:
        async for piece in stream:
            yield piece
    except OpenAIError:
        raise
    except Exception as broken:  # the package lets through what its parser and its connections raise
        told = f"{type(broken).__name__}: {broken}"[:_MOST_CHARACTERS]
        raise EndpointFailed(f"the stream broke off: {told}") from broken


class Assembled:
    """A message in the making."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[dict[str, str]] = []
        self._open: dict[Any, dict[str, str]] = {}  # by index: the call that pieces are added to
        self._finish_reason: str | None = None

    def add(self, chunk: Any) -> str:
        """Take a piece of the stream; the text that it brings.

        Raises:
            EndpointFailed: it tells an error, or makes no sense.
        """
        if getattr(chunk, "choices", None) is None and (words := _words_in(chunk)):
            raise EndpointFailed(f"the endpoint broke off its answer: {words}")
        try:
            return "".join(self._take(choice) for choice in chunk.choices or () if not choice.index)
        except (AttributeError, TypeError) as odd:
            raise EndpointFailed(f"the endpoint sent what is no piece of an answer: {chunk!r:.500}") from odd

    def _take(self, choice: Any) -> str:
        self._finish_reason = choice.finish_reason or self._finish_reason
        if (delta := getattr(choice, "delta", None)) is None:
            return ""
        text = delta.content or ""
        self._text.append(text)
        self._refusal.append(delta.refusal or "")
        for piece in delta.tool_calls or ():
            self._add_to_call(piece)
        return text

    def _add_to_call(self, piece: Any) -> None:
        call = self._open.get(piece.index)
        if call is None or (piece.id and call["id"] and piece.id != call["id"]):
            call = self._open[piece.index] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(call)
        call["id"] = piece.id or call["id"]
        if piece.function is not None:
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""

    def whole(self) -> Message:
        """The message, as it is said back to the model in the next round.

        Raises:
            EndpointFailed: its end has not come.
        """
        if self._finish_reason is None:
            raise EndpointFailed("the stream ended in the middle of an answer")
        message: Message = {"role": "assistant", "content": _joined(self._text)}
        if self._calls:
            message["tool_calls"] = [_as_sent(number, call) for number, call in enumerate(self._calls)]
        elif refusal := _joined(self._refusal):
            message["refusal"] = refusal
        elif self._finish_reason != "stop":
            message["finish_reason"] = self._finish_reason
        return message


def _words_in(chunk: Any) -> str:
    """What a piece that is no piece of an answer says is wrong; empty if it says nothing."""
    said = getattr(chunk, "model_extra", None) or {}
    return dumps(said).decode()[:_MOST_CHARACTERS] if any(said.get(name) for name in _WORDS) else ""


def _joined(pieces: list[str]) -> str:
    """The pieces as one text; a character may come in two halves."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _as_sent(number: int, call: dict[str, str]) -> Message:
    function = {"name": call["name"], "arguments": _joined([call["arguments"]])}
    return {"id": call["id"] or f"call-{number}", "type": "function", "function": function}
