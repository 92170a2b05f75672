"""Show on a terminal what a command waits for."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING, TypeVar

from cgworker.printable import printable

if TYPE_CHECKING:
    from rich.status import Status

SILENT_SECONDS = 2.0
"""How long a wait may be silent."""

Item = TypeVar("Item")


@contextmanager
def progress(text: str, *, after_seconds: float = 0) -> Iterator[Callable[[str], None]]:
    """Show a line on stderr while the block runs, if stderr is a terminal, in place of an outer block's.

    Args:
        text: the line.
        after_seconds: shows nothing before this has passed.

    Yields:
        A function that replaces the line.
    """
    # The line of an outer block puts a proxy in place of stderr, which says that it is no terminal.
    if not getattr(sys.stderr, "rich_proxied_file", sys.stderr).isatty():
        yield lambda _: None
        return
    line = _Line(text, after_seconds)
    with _on_top(line):
        yield line.say


@contextmanager
def no_progress() -> Iterator[None]:
    """Hide the line of an outer block, while the block writes to the terminal."""
    with _on_top(None):
        yield


async def announced(items: AsyncIterator[Item], text: str) -> AsyncIterator[Item]:
    """Yield the items; while one is awaited for long, show what is waited for.

    Args:
        items: the items, which the caller may print.
        text: the line.
    """
    while True:
        with progress(text, after_seconds=SILENT_SECONDS):
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
        yield item


class _Line:
    """A line that is shown after a while, until it is hidden."""

    def __init__(self, text: str, after_seconds: float) -> None:
        self._text = text
        self._after_seconds = after_seconds
        self._status: Status | None = None
        self._timer: Timer | None = None
        self._lock = Lock()

    def say(self, text: str) -> None:
        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(_drawn(text))

    def show(self) -> None:
        self._timer = Timer(self._after_seconds, self._start)
        self._timer.daemon = True
        if self._after_seconds:
            self._timer.start()
        else:
            self._start()

    def hide(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._status is not None:
                self._status.stop()
                self._status = None

    def _start(self) -> None:
        from rich.console import Console

        with self._lock:
            if self._timer is not None:  # not hidden meanwhile
                self._status = Console(stderr=True).status(_drawn(self._text))
                self._status.start()


def _drawn(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


_lines: list[_Line | None] = []


@contextmanager
def _on_top(line: _Line | None) -> Iterator[None]:
    """Show the line in place of the one that is shown, and that one again at the end."""
    below = _lines[-1] if _lines else None
    if below is not None:
        below.hide()
    _lines.append(line)
    if line is not None:
        line.show()
    try:
        yield
    finally:
        if line is not None:
            line.hide()
        _lines.pop()
        if below is not None:
            below.show()
