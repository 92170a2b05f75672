"""What a child writes, as lines fit for a terminal and a log: masked, escaped, and of bounded length."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

from cgworker.printable import printable

_MOST_CHARACTERS = 4096


class Lines:
    """Takes bytes as they come and makes lines of them.

    Args:
        mask: hides secrets in a text.
    """

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def take(self, data: bytes) -> Iterator[str]:
        """The lines that are complete by now, and the beginning of one that never ends."""
        *lines, self._rest = (self._rest + self._decode(data)).split("\n")
        for line in lines:
            yield from _pieces(self._mask(line.rstrip("\r")))
        if len(self._rest) > 2 * _MOST_CHARACTERS:
            # Before the cut, and with more than a secret's length behind it: no secret stands across it.
            self._rest = self._mask(self._rest)
        while len(self._rest) > 2 * _MOST_CHARACTERS:
            yield printable(self._rest[:_MOST_CHARACTERS])
            self._rest = self._rest[_MOST_CHARACTERS:]

    def end(self) -> Iterator[str]:
        """The last line, if it has no end."""
        if self._rest:
            yield from _pieces(self._mask(self._rest))


def _pieces(line: str) -> Iterator[str]:
    for start in range(0, max(len(line), 1), _MOST_CHARACTERS):
        yield printable(line[start : start + _MOST_CHARACTERS])
