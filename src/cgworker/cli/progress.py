"""A line that says what is waited for, where a person can see it: on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cgworker.printable import printable


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show `text` while the block runs; the function given changes it. It needs a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(text))) as status:
        yield lambda changed: status.update(Text(printable(changed)))
