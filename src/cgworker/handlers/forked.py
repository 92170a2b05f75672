"""Children that a handler forks: they are the handler's, and no second worker.

A forked child has a copy of everything: the event loop, the connections, the turn. Where it comes back from
the handler's code, and does not end there as `multiprocessing` has it end, it would go on as its parent does.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def ending_forked_children() -> Iterator[None]:
    """End a child that was forked within the block where it leaves the block; its parent goes on."""
    parent = os.getpid()
    try:
        yield
    except BaseException as raised:
        if os.getpid() == parent:
            raise
        _leave(raised)
    if os.getpid() != parent:
        _leave(None)


def _leave(raised: BaseException | None) -> NoReturn:
    """As Python ends a program, but without what the parent has registered for its own end."""
    try:
        if isinstance(raised, SystemExit):
            status = raised.code if isinstance(raised.code, int) else int(raised.code is not None)
        else:
            status = int(raised is not None)
            if raised is not None:
                traceback.print_exception(raised)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        status = 1
    os._exit(status & 0xFF)
