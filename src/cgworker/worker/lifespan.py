"""Enter the lifespan of a worker, which opens resources for its handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from cgworker.errors import UsageError


@asynccontextmanager
async def open_lifespan(
    lifespan: AbstractAsyncContextManager[Mapping[str, Any] | None],
) -> AsyncIterator[Mapping[str, Any]]:
    """Enter the lifespan for the block, and yield the resources by name.

    Args:
        lifespan: what the lifespan function returned. It yields resources by name, or None.

    Raises:
        UsageError: it is no async context manager, or yields something else.
    """
    if not hasattr(lifespan, "__aenter__"):
        raise UsageError("a lifespan is a context manager: decorate its function with @asynccontextmanager")
    async with lifespan as given:
        if not isinstance(given, Mapping | None):
            raise UsageError(f"a lifespan yields resources by name, such as {{'db': ...}}, not {given!r}")
        yield given or {}
