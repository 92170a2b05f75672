"""An agent's credential as its client holds it: a text, or a file in which another may stand tomorrow."""

from __future__ import annotations

import logging
from pathlib import Path

from cgworker.errors import CommonGroundError
from cgworker.private import read_secret

_logger = logging.getLogger("cgworker")

_MOST_KEPT = 3  # earlier tokens that are kept out of logs and children as well


class Token:
    """A token; one that stands in a file is read again when the file changes.

    Args:
        text: the token; None is what the file says.
        file: where it stands; None if it never changes.

    Raises:
        ProfileError: others may read the file.
        OSError: it cannot be read.
    """

    def __init__(self, text: str | None, file: Path | None) -> None:
        self._file = file
        self._seen = self._look()
        self._known = [text] if text is not None or file is None else [read_secret(file)]

    @property
    def text(self) -> str | None:
        """The token now."""
        if self._file is not None and (found := self._look()) is not None and found != self._seen:
            self._seen = found
            self._read(self._file)
        return self._known[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token now, and those before it."""
        current = self.text
        return tuple(known for known in (current, *self._known[1:]) if known is not None)

    def read_again(self) -> bool:
        """Read the file although it does not seem to have changed; returns whether there is another token."""
        if self._file is None:
            return False
        before = self._known[0]
        self._read(self._file)
        return self._known[0] != before

    def _look(self) -> tuple[int, int, int] | None:
        """What changes with the file; None while it is not there, as when it is being replaced."""
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)

    def _read(self, file: Path) -> None:
        """Take what stands there; what cannot be read leaves the token that there is."""
        try:
            text = read_secret(file)
        except (OSError, ValueError, CommonGroundError) as unreadable:
            _logger.warning("the token file %s cannot be read again: %s", file, unreadable)
            return
        if text is not None and text != self._known[0]:
            self._known = [text, *self._known[:_MOST_KEPT]]
