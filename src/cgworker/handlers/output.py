"""Split a child's output into lines that are safe for a terminal and a log: masked, escaped and limited."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

from cgworker.printable import printable

_MAX_CHARACTERS = 4096


class Lines:
    """Makes lines of bytes as they arrive.

    Args:
        mask: hides secrets in a text.
    """

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def take(self, data: bytes) -> Iterator[str]:
        """Yield the lines that are complete; of a very long line, yield pieces.

        Args:
            data: the next bytes.
        """
        *lines, self._rest = (self._rest + self._decode(data)).split("\n")
        for line in lines:
            yield from _pieces(self._mask(line.rstrip("\r")))
        if len(self._rest) > 2 * _MAX_CHARACTERS:
            # Mask before the cut, and keep more than a secret's length: a cut never splits a secret.
            self._rest = self._mask(self._rest)
        while len(self._rest) > 2 * _MAX_CHARACTERS:
            yield printable(self._rest[:_MAX_CHARACTERS])
            self._rest = self._rest[_MAX_CHARACTERS:]

    def end(self) -> Iterator[str]:
        """Yield the last line, if no newline ended it."""
        if self._rest:
            yield from _pieces(self._mask(self._rest))


def _pieces(line: str) -> Iterator[str]:
    for start in range(0, max(len(line), 1), _MAX_CHARACTERS):
        yield printable(line[start : start + _MAX_CHARACTERS])
