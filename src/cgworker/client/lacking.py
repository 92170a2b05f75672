"""Tell a kernel that lacks an extension, as the reference's does, from one that refuses a request."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from cgworker.errors import InvalidRequest, KernelLacks, KernelRefused


@contextmanager
def requiring(what: str, kernel: str, *fields: str) -> Iterator[None]:
    """Turn the refusal of a route or field that the kernel does not have into `KernelLacks`.

    Args:
        what: what the route is for, as in "telling turns something".
        kernel: the address of the kernel.
        fields: the fields of the request that a kernel may lack; then the route is one that all kernels have.

    Raises:
        KernelLacks: the kernel has no such route, or no such field.
    """
    try:
        yield
    except KernelRefused as refused:
        if _is_of_unknown_field(refused, fields) if fields else _is_of_no_route(refused):
            raise KernelLacks(what, kernel) from refused
        raise


def _is_of_unknown_field(refused: KernelRefused, fields: Collection[str]) -> bool:
    faults = refused.faults if isinstance(refused, InvalidRequest) else ()
    unknown = [fault.get("loc") for fault in faults if fault.get("type") == "extra_forbidden"]
    return any(name in place for name in fields for place in unknown if isinstance(place, list))


def _is_of_no_route(refused: KernelRefused) -> bool:
    """Return True if the path or its method is unknown: a route's own refusal names an error class."""
    if refused.status == 405:
        return True
    try:
        body = json.loads(refused.answer or "")
    except ValueError:
        return False
    return refused.status == 404 and isinstance(body, dict) and "error" not in body
