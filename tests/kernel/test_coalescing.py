"""An answer's head and body leave in one system call, and nothing is held for longer than a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import define, field

from cgworker.kernel.http.protocol import CoalescingTransport


@define(eq=False, slots=False)
class Wire(asyncio.Transport):
    """Writes down what is sent, a piece for each system call."""

    sent: list[bytes] = field(factory=list)
    is_closed: bool = False
    has_ended: bool = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        assert not self.has_ended
        self.sent.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.has_ended = True

    def pause_reading(self) -> None:
        """The client's next bytes wait in its socket."""

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def joined(wire: Wire) -> CoalescingTransport:
    return CoalescingTransport(wire, asyncio.get_running_loop())


async def test_two_writes_are_one(wire: Wire, joined: CoalescingTransport) -> None:
    """The second goes at once, and takes the first along; nothing is sent twice."""
    joined.write(b"head ")
    assert wire.sent == []
    joined.write(b"body")
    assert wire.sent == [b"head body"]
    await asyncio.sleep(0)
    assert wire.sent == [b"head body"]


async def test_a_body_that_is_empty_takes_its_head_along(wire: Wire, joined: CoalescingTransport) -> None:
    """As that of a 204."""
    joined.write(b"head")
    joined.write(b"")
    assert wire.sent == [b"head"]


async def test_a_lone_write_does_not_wait(wire: Wire, joined: CoalescingTransport) -> None:
    """Such as `100 Continue`, after which the client has the next word."""
    joined.write(b"100 Continue")
    await asyncio.sleep(0)
    assert wire.sent == [b"100 Continue"]


async def test_a_third_write_keeps_its_place(wire: Wire, joined: CoalescingTransport) -> None:
    """Pieces of a longer body come in order, all of them."""
    for piece in (b"a", b"b", b"c"):
        joined.write(piece)
    await asyncio.sleep(0)
    assert wire.sent == [b"ab", b"c"]


async def test_closing_sends_what_is_held(wire: Wire, joined: CoalescingTransport) -> None:
    """A refusal is written, and the connection closed in the same breath."""
    joined.write(b"431")
    joined.close()
    await asyncio.sleep(0)
    assert wire.sent == [b"431"]
    assert joined.is_closing()


async def test_nothing_is_sent_to_who_has_gone(wire: Wire, joined: CoalescingTransport) -> None:
    """What was held for a client that hung up is dropped."""
    joined.write(b"head")
    wire.close()
    await asyncio.sleep(0)
    assert wire.sent == []


async def test_nothing_is_sent_after_the_end(wire: Wire, joined: CoalescingTransport) -> None:
    """A request that came behind one that ends its connection has an answer, but nowhere to send it."""
    joined.pause_reading()
    joined.write(b"401")
    joined.close()
    for piece in (b"head", b"body", b"more"):
        joined.write(piece)
    await asyncio.sleep(0)
    assert wire.sent == [b"401"]
