"""Make Idempotency-Keys without a system call for each."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterator

_keys: Iterator[str]


def new_key() -> str:
    """Return a key that no other request has: a random prefix of this process, and a counter."""
    return next(_keys)


def _begin() -> None:
    global _keys  # a forked child must not go on with its parent's keys
    _keys = map(f"{uuid.uuid4().hex}-{{}}".format, itertools.count())


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
