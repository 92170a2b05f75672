"""The packages behind the adapters are optional: what to say where one is missing, or cannot be used."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from cgworker.errors import UsageError


def require(package: str, extra: str) -> None:
    """Refuse to go on without the package.

    Args:
        package: as it is imported.
        extra: the extra of cgworker that brings it.

    Raises:
        UsageError: it is not installed; the message says what to type.
    """
    if find_spec(package) is None:
        raise UsageError(f"this needs the package {package}: pip install 'cgworker[{extra}]'")


def require_asyncio(package: str) -> None:
    """Refuse to go on with trio.

    Args:
        package: what runs on asyncio only, as a person calls it.

    Raises:
        UsageError: this worker runs on trio.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(f"{package} runs on asyncio only, and this worker runs on trio") from None
