"""Show on a terminal what a command waits for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cgworker.printable import printable


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show a line on stderr while the block runs, if stderr is a terminal.

    Args:
        text: the line.

    Yields:
        A function that replaces the line.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(text))) as status:
        yield lambda changed: status.update(Text(printable(changed)))
