"""Assemble a chat model's message from the pieces of its stream.

Endpoints differ in what they send: pieces without choices or without a delta, an error in the middle, calls
that share an index. An invalid piece is reported as the endpoint's failure, in the endpoint's words, and
never as an error of Python.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from cgworker.wire.converter import dumps

Message = dict[str, Any]

_ERROR_FIELDS = ("error", "message", "detail")  # endpoints report errors in one of these
_MAX_CHARACTERS = 2000


class EndpointFailed(Exception):
    """The endpoint refused, broke off, or stayed unreachable in all retries; the text contains no secret."""


async def readable(stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Yield the pieces of a stream.

    Args:
        stream: the stream of the package `openai`.

    Raises:
        OpenAIError: the endpoint refused.
        EndpointFailed: the endpoint sent something that is not JSON, or the connection broke.
    """
    from openai import OpenAIError

    try:
        async for piece in stream:
            yield piece
    except OpenAIError:
        raise
    except Exception as broken:  # the package does not catch errors of its parser and its connections
        message = f"{type(broken).__name__}: {broken}"[:_MAX_CHARACTERS]
        raise EndpointFailed(f"the stream broke off: {message}") from broken


class MessageBuilder:
    """Assembles a message from the pieces of a stream."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[dict[str, str]] = []
        self._open: dict[Any, dict[str, str]] = {}  # by index: the call that the next pieces belong to
        self._finish_reason: str | None = None
        self._usage: dict[str, int] = {}

    def add(self, chunk: Any) -> str:
        """Add a piece of the stream.

        Args:
            chunk: the piece.

        Returns:
            The text in the piece.

        Raises:
            EndpointFailed: the piece reports an error, or makes no sense.
        """
        if getattr(chunk, "choices", None) is None and (error := _error_in(chunk)):
            raise EndpointFailed(f"the endpoint broke off its answer: {error}")
        if (usage := getattr(chunk, "usage", None)) is not None:  # in the last piece, if it was asked for
            counts = (("input", "prompt_tokens"), ("output", "completion_tokens"))
            told = {ours: getattr(usage, theirs, None) for ours, theirs in counts}
            self._usage = {ours: count for ours, count in told.items() if isinstance(count, int)}
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

    def build(self) -> Message:
        """Return the message, in the form in which the next request repeats it, and `usage` if it is known.

        Raises:
            EndpointFailed: the stream ended before the message did.
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
        return message | ({"usage": self._usage} if self._usage else {})


def _error_in(chunk: Any) -> str:
    """Return the error that a piece without choices reports; empty if it reports none."""
    fields = getattr(chunk, "model_extra", None) or {}
    return dumps(fields).decode()[:_MAX_CHARACTERS] if any(fields.get(name) for name in _ERROR_FIELDS) else ""


def _joined(pieces: list[str]) -> str:
    """Join the pieces; a character may be cut into two halves (surrogates)."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _as_sent(number: int, call: dict[str, str]) -> Message:
    function = {"name": call["name"], "arguments": _joined([call["arguments"]])}
    return {"id": call["id"] or f"call-{number}", "type": "function", "function": function}
