"""An agent's credential: a text, or a file whose content may change."""

from __future__ import annotations

import logging
from pathlib import Path

from cgworker.errors import CommonGroundError
from cgworker.private import read_secret

_logger = logging.getLogger("cgworker")

_MAX_KEPT = 3  # earlier tokens, which must be kept out of logs and child processes as well


class Token:
    """A token. If it is in a file, it is read again when the file changes.

    Args:
        text: the token; None takes the content of the file.
        file: the file with the token; None means that the token never changes.

    Raises:
        ProfileError: other users may read the file.
        OSError: the file cannot be read.
    """

    def __init__(self, text: str | None, file: Path | None) -> None:
        self._file = file
        self._seen = self._look()
        self._known = [text] if text is not None or file is None else [read_secret(file)]

    @property
    def text(self) -> str | None:
        """The current token."""
        if self._file is not None and (found := self._look()) is not None and found != self._seen:
            self._seen = found
            self._read(self._file)
        return self._known[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The current token, and earlier ones."""
        return tuple([known for known in (self.text, *self._known[1:]) if known is not None])

    def read_again(self) -> bool:
        """Read the file even if it seems unchanged; return True if the token is another one now."""
        if self._file is None:
            return False
        before = self._known[0]
        self._read(self._file)
        return self._known[0] != before

    def _look(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file does; None while it is missing, as when it is replaced."""
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)

    def _read(self, file: Path) -> None:
        """Read the token from the file; keep the current one if the file cannot be read."""
        try:
            text = read_secret(file)
        except (OSError, ValueError, CommonGroundError) as unreadable:
            _logger.warning("the token file %s cannot be read again: %s", file, unreadable)
            return
        if text is not None and text != self._known[0]:
            self._known = [text, *self._known[:_MAX_KEPT]]
