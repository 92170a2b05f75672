"""Stream: record a stream of text, such as a model's tokens, as a few public records."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from cgworker.durable.journal import Journal
from cgworker.errors import CommonGroundError
from cgworker.events import logger

_LAST_SECONDS = 2.0


class Stream:
    """Text that is recorded in pieces, `{"index": n, "text": ...}`, while it is written.

    Attributes:
        record_count: how many records it has become so far.
        character_count: how many characters were written.
    """

    def __init__(self, journal: Journal, role: str, max_characters: int) -> None:
        self._journal = journal
        self._role = role
        self._max_characters = max_characters
        self._half = ""  # the first half (surrogate) of a character that was cut in two
        self._waiting: list[str] = []
        self._waiting_count = 0
        self._sending: tuple[str, str] | None = None
        self._flushing = anyio.Lock()
        self._news = anyio.Event()
        self.record_count: int = 0
        self.character_count: int = 0

    async def write(self, text: str) -> None:
        """Add text. This waits only when enough text is there for the next record.

        A character may come in two halves (surrogates), as from a runtime that counts in UTF-16; a half
        that stays alone becomes U+FFFD.

        Args:
            text: the text to add; it may be empty.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the record, for instance because the claim is no longer ours.
        """
        self._add(self._joined(text))
        while self._is_due:
            async with self._flushing:
                if self._is_due:  # another task may have sent it meanwhile
                    await self._send()

    async def flush(self) -> None:
        """Record the buffered text now. Text that is written meanwhile goes into the next record.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the record, for instance because the claim is no longer ours.
        """
        async with self._flushing:
            await self._send()

    @property
    def _is_due(self) -> bool:
        return self._waiting_count >= self._max_characters

    def _add(self, text: str) -> None:
        if text:
            self._waiting.append(text)
            self._waiting_count += len(text)
            self.character_count += len(text)
            self._news.set()

    def _joined(self, text: str) -> str:
        """Join half characters (surrogates): keep a trailing first half for later, replace a lone half."""
        text, self._half = self._half + text, ""
        if text.isascii():
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    async def _send(self) -> None:
        """Send what a cancelled flush left, unchanged and under its old key; then send the buffered text."""
        while self._sending or self._waiting:
            is_rest = self._sending is not None
            self._sending = self._sending or (self._take(), uuid.uuid4().hex)
            text, key = self._sending
            await self._journal.append({"index": self.record_count, "text": text}, self._role, key=key)
            self._sending = None
            self.record_count += 1
            if not is_rest:
                return

    def _take(self) -> str:
        text = "".join(self._waiting)
        self._waiting, self._waiting_count = [], 0
        return text

    async def flush_now_and_then(self, seconds: float) -> None:
        """Record text at most `seconds` after it was written, until cancelled.

        Args:
            seconds: the longest time that text waits for its record.
        """
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await anyio.sleep(seconds)
            try:
                await self.flush()
            except CommonGroundError as trouble:  # the next write, or the end, raises it to the handler
                logger.debug("a stream could not be recorded yet: %s", trouble)

    async def finish(self) -> None:
        """Record the rest of the text; no more will be written.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the record, for instance because the claim is no longer ours.
        """
        half, self._half = self._half, ""
        self._add(half and "\N{REPLACEMENT CHARACTER}")
        await self.flush()

    async def flush_what_can_be(self) -> None:
        """Record the rest of the text, in two seconds at most: the handler is being ended."""
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            try:
                await self.finish()
            except CommonGroundError as trouble:
                logger.debug("the end of a stream could not be recorded: %s", trouble)


@asynccontextmanager
async def open_stream(
    journal: Journal, role: str, *, max_characters: int, max_seconds: float
) -> AsyncIterator[Stream]:
    """Open a stream for the duration of the block; see `Turn.stream`.

    Args:
        journal: the turn's records and events.
        role: the role of the records.
        max_characters: record the buffered text once it has this many characters.
        max_seconds: record the buffered text at least this often.

    Yields:
        The stream to write to.
    """
    stream = Stream(journal, role, max_characters)
    raised: BaseException | None = None
    async with anyio.create_task_group() as beside:
        beside.start_soon(stream.flush_now_and_then, max_seconds)
        try:
            yield stream
        except anyio.get_cancelled_exc_class():
            await stream.flush_what_can_be()
            raise
        except BaseException as error:  # the task group would wrap it in an ExceptionGroup
            raised = error
        beside.cancel_scope.cancel()
    if raised is not None:
        await stream.flush_what_can_be()
        raise raised
    await stream.finish()
