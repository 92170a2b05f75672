"""A platform without what Windows does not have: `pretend()` takes it away from this process.

To be called once the libraries are imported, which choose by the real platform, and before cgworker is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_MISSING = {
    os: "pidfd_open killpg setsid setpgid getpgid fork forkpty O_NOFOLLOW O_NONBLOCK O_DIRECTORY fchmod",
    signal: "SIGKILL SIGHUP SIGQUIT SIGUSR1 SIGUSR2 pthread_sigmask",
    time: "clock_gettime CLOCK_BOOTTIME CLOCK_MONOTONIC",
}


def pretend() -> None:
    """From now on this process has what Windows has."""
    for module, names in _MISSING.items():
        for name in names.split():
            delattr(module, name)
    sys.modules["fcntl"] = None  # type: ignore[assignment]  # an import of it fails
    subprocess.Popen.kill = subprocess.Popen.terminate  # type: ignore[method-assign]
    asyncio.SelectorEventLoop.add_signal_handler = _not_there  # type: ignore[assignment]
    os.open = _open_files_only(os.open)
    os.name = "neither"  # "nt" would ask pathlib for paths that cannot be made here
    sys.platform = "win32"


def _not_there(*_: Any) -> Any:
    raise NotImplementedError


def _open_files_only(open_file: Any) -> Any:
    def opened(path: Any, *options: Any, **more: Any) -> int:
        if isinstance(path, str | os.PathLike) and Path(path).is_dir():
            raise PermissionError(13, "a folder cannot be opened", path)
        return int(open_file(path, *options, **more))

    return opened
