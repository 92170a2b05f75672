"""A stream of text, such as a model's tokens, as a few public records."""

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
    """Text on its way into records, `{"index": n, "text": ...}`: write to it, the rest is done by itself.

    Attributes:
        record_count: how many records it has become so far.
        character_count: how many characters were written.
    """

    def __init__(self, journal: Journal, role: str, max_characters: int) -> None:
        self._journal = journal
        self._role = role
        self._max_characters = max_characters
        self._half = ""  # of a character that was cut in two, its first part
        self._waiting: list[str] = []
        self._waiting_count = 0
        self._sending: tuple[str, str] | None = None
        self._flushing = anyio.Lock()
        self._news = anyio.Event()
        self.record_count: int = 0
        self.character_count: int = 0

    async def write(self, text: str) -> None:
        """Add text. Waits only when so much is there that a record is due.

        A character may come in two halves (surrogates), as from a runtime that counts in UTF-16; a half that
        stays alone becomes U+FFFD.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel said no.
        """
        self._add(self._joined(text))
        while self._is_due:
            async with self._flushing:
                if self._is_due:  # nobody was quicker
                    await self._send()

    async def flush(self) -> None:
        """Make a record of what waits, now. What is written meanwhile waits for the next one."""
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
        """The text without its halves of characters: joined, kept for the next text, or replaced."""
        text, self._half = self._half + text, ""
        if text.isascii():
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    async def _send(self) -> None:
        """What a cancelled flush was sending is sent again as it was, under its old key; then what waits."""
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
        """Let nothing wait longer than so long, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await anyio.sleep(seconds)
            try:
                await self.flush()
            except CommonGroundError as trouble:  # the next write, or the end, says it to the handler
                logger.debug("a stream could not be recorded yet: %s", trouble)

    async def finish(self) -> None:
        """Make a record of the rest: no more will come."""
        half, self._half = self._half, ""
        self._add(half and "\N{REPLACEMENT CHARACTER}")
        await self.flush()

    async def flush_what_can_be(self) -> None:
        """The handler is being ended: save what there is, but keep nobody waiting for it."""
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            try:
                await self.finish()
            except CommonGroundError as trouble:
                logger.debug("the end of a stream could not be recorded: %s", trouble)


@asynccontextmanager
async def open_stream(
    journal: Journal, role: str, *, max_characters: int, max_seconds: float
) -> AsyncIterator[Stream]:
    """A stream for as long as the block lasts; see `Turn.stream`."""
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
