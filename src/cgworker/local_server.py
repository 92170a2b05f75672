"""Find the server that `cg local run` runs for a project on this machine, for programs of the same user.

The server writes its address to a file and locks the file while it serves. The file of a killed server has
no lock and is ignored, so no reused process number or port can be mistaken for a server.
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

_TRIES = 5  # a reader holds the lock for a moment
_PAUSE_SECONDS = 0.01


@contextmanager
def announced(project_id: str, url: str) -> Iterator[None]:
    """Announce a server to other programs while the block runs.

    Nothing is announced if another server of the project was first, if the home folder cannot be written, and
    on Windows; the server runs all the same.

    Args:
        project_id: the project that is served.
        url: the server's address on this machine.
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
    """Return the address at which this machine serves the project now, or None."""
    with suppress(OSError, ProfileError, UsageError):  # no such file, as a rule
        return _read_if_held(local_server_path(project_id))
    return None


def find_servers() -> Mapping[str, str]:
    """Return the addresses of the projects that this machine serves now, by project."""
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
