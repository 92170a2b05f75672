"""Check for the optional packages that adapters need, and load them."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import anyio.to_thread

from cgworker.errors import UsageError


def require(package: str, extra: str) -> None:
    """Check that a package is installed.

    Args:
        package: the name under which it is imported.
        extra: the extra of cgworker that installs it.

    Raises:
        UsageError: it is not installed; the message gives the command that installs it.
    """
    if find_spec(package) is None:
        raise UsageError(f"this needs the package {package}: pip install 'cgworker[{extra}]'")


def require_asyncio(package: str) -> None:
    """Check that this program runs on asyncio.

    Args:
        package: the package that needs asyncio, for the message.

    Raises:
        UsageError: this worker runs on trio.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(f"{package} runs on asyncio only, and this worker runs on trio") from None


async def load(*modules: str) -> None:
    """Import modules in a thread: a large package takes seconds, in which the event loop must renew leases.

    Args:
        modules: their names.
    """
    for module in modules:
        if module not in sys.modules:
            await anyio.to_thread.run_sync(partial(import_module, module))
