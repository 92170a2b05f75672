"""Where `cg local run` serves a project on this machine, for other programs of the same user.

The server holds a lock on the file that says so for as long as it serves: what one that was killed has left
there is not believed, and no process number or port can be mistaken for its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from cgworker.errors import ProfileError, UsageError
from cgworker.paths import local_server_path, local_servers_folder
from cgworker.private import make_private_folder

_TRIES = 5  # who reads holds the lock for a moment
_PAUSE_SECONDS = 0.01


@contextmanager
def announced(project_id: str, url: str) -> Iterator[None]:
    """Let others find the server while the block runs.

    They cannot where another server of the project was first, where there is no home folder that can be
    written, and on Windows; no server is kept from serving by that.

    Args:
        project_id: what is served.
        url: the server's address, as this machine reaches it.
    """
    with ExitStack() as stack:
        with suppress(OSError, ProfileError, UsageError):
            path = local_server_path(project_id)
            make_private_folder(path.parent)
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            if _hold(file):
                stack.callback(file.truncate, 0)
                file.truncate(0)
                file.write(url)
                file.flush()
        yield


def find_server(project_id: str) -> str | None:
    """The address at which this machine serves the project now, if it does."""
    with suppress(OSError, ProfileError, UsageError):  # no such file, as a rule
        return _read_if_held(local_server_path(project_id))
    return None


def find_servers() -> Mapping[str, str]:
    """The address of each project that this machine serves now."""
    found = {}
    with suppress(OSError, UsageError):
        for path in sorted(local_servers_folder().iterdir()):
            if (url := _read_if_held(path)) is not None:
                found[path.name] = url
    return found


def _hold(file: IO[str]) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl

    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return True
    return False


def _read_if_held(path: Path) -> str | None:
    if sys.platform == "win32":
        return None
    import fcntl

    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or None
    return None
