"""Tell a kernel that lacks an extension, as the reference's does, from one that refuses a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from cgworker.errors import KernelLacks, KernelRefused


@contextmanager
def requiring(what: str, kernel: str) -> Iterator[None]:
    """Turn the refusal of a route that the kernel does not have into `KernelLacks`.

    Args:
        what: what the route is for, as in "telling turns something".
        kernel: the address of the kernel.

    Raises:
        KernelLacks: the kernel has no such route.
    """
    try:
        yield
    except KernelRefused as refused:
        if _is_of_no_route(refused):
            raise KernelLacks(what, kernel) from refused
        raise


def _is_of_no_route(refused: KernelRefused) -> bool:
    """Return True if the path or its method is unknown: a route's own refusal names an error class."""
    if refused.status == 405:
        return True
    try:
        body = json.loads(refused.answer or "")
    except ValueError:
        return False
    return refused.status == 404 and isinstance(body, dict) and "error" not in body
