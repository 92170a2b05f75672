"""End child processes that a handler forks when they leave the handler's code.

A forked child has a copy of everything: the event loop, the connections, the turn. If it returned from the
handler's code (`multiprocessing` ends it before that), it would go on as a second worker.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn


class EndingForkedChildren:
    """Ends a child that was forked within the block when it leaves the block; the parent goes on."""

    def __enter__(self) -> None:
        self._parent = os.getpid()

    def __exit__(self, _kind: object, raised: BaseException | None, _traceback: object) -> None:
        if os.getpid() != self._parent:
            _leave(raised)


def _leave(raised: BaseException | None) -> NoReturn:
    """Exit with the status that Python would give, without the parent's atexit handlers."""
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
