"""Messages: what others tell an open turn, for its handler to read in order (difference 32).

The kernel stores a message as a record of role `message`, `{"from": ..., "message": ..., "key": ...}`. So
none is lost while no handler runs: each run reads the messages from the first one on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.durable.journal import Journal
from cgworker.wire.records import MESSAGE_ROLE, SemanticItem


@frozen(kw_only=True)
class Message:
    """A message to a turn.

    Attributes:
        content: any JSON value.
        sender: the id of the agent that sent it.
        key: the sender's name for it within the turn; None if it has none.
        turn_seq: the number of its record.
        told_at: when the kernel got it, by the kernel's clock.
    """

    content: Any
    sender: str
    key: str | None
    turn_seq: int
    told_at: datetime


class Messages:
    """The messages of one turn; a run of the handler gets each of them once.

    Args:
        journal: the turn's records and events.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._last_seq = 0

    async def next(self, *, wait: bool) -> Message | None:
        """Return the first message that this run has not had yet.

        Args:
            wait: wait until there is one.

        Returns:
            The message; None if there is none and `wait` is false.

        Raises:
            LeaseLost: the lease ended, or the turn is closed.
            KernelLacks: the kernel cannot wait for records.
        """
        while (message := await self._take()) is None and wait:
            await self._journal.wait_for_records()
        if message is None:
            await self._journal.expect_more()
            message = await self._take()
        return message

    async def _take(self) -> Message | None:
        """Take the first known message that this run has not had yet."""
        for item in await self._journal.records(MESSAGE_ROLE):
            if item.record.turn_seq > self._last_seq and (message := message_of(item)) is not None:
                self._last_seq = message.turn_seq
                return message
        return None


class MessageReader:
    """An iterator over messages. It is not a generator, since a loop may be left early on trio too.

    Args:
        messages: the messages of the turn.
        wait: wait for further messages at the end.
    """

    def __init__(self, messages: Messages, *, wait: bool) -> None:
        self._messages = messages
        self._wait = wait

    def __aiter__(self) -> MessageReader:
        return self

    async def __anext__(self) -> Message:
        if (message := await self._messages.next(wait=self._wait)) is None:
            raise StopAsyncIteration
        return message


def message_of(item: SemanticItem) -> Message | None:
    """Read a record as a message.

    Args:
        item: the record.

    Returns:
        The message; None if the record is another one, such as a handler's own of that role.
    """
    payload = item.payload
    is_message = item.record.record_role == MESSAGE_ROLE and isinstance(payload, Mapping)
    if not is_message or not isinstance(payload.get("from"), str) or "message" not in payload:
        return None
    return Message(
        content=payload["message"],
        sender=payload["from"],
        key=payload.get("key"),
        turn_seq=item.record.turn_seq,
        told_at=item.record.created_at,
    )
