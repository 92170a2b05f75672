"""What tells a turn from all others, and what its children are called in its project."""

from __future__ import annotations

import hashlib
import re

from cgworker.client import KernelClient
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot


def fingerprint_of(turn: TurnSnapshot, kernel: KernelClient) -> str:
    """Return the `Turn.fingerprint` of a turn at a kernel."""
    born = turn.created_at.isoformat()
    facts = [kernel.base_url, str(turn.target_agent), turn.turn.turn_id, turn.spawn_key, born]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:40]


def child_key(parent: TurnRef, key: str) -> str:
    """Return the dispatch key of a turn's child in its project: readable if the rules allow it."""
    plain = re.fullmatch(r"[A-Za-z0-9._:@/-]{1,90}", key)
    return f"{parent.turn_id}:{key if plain else hashlib.sha256(key.encode()).hexdigest()}"
