"""Names that identify a turn among all kernels, and its children in their project."""

from __future__ import annotations

import hashlib
import re

from cgworker.client import KernelClient
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot


def fingerprint_of(turn: TurnSnapshot, kernel: KernelClient) -> str:
    """Return the `Turn.fingerprint` of a turn at a kernel.

    Args:
        turn: the turn.
        kernel: the kernel that has it.
    """
    born = turn.created_at.isoformat()
    facts = [kernel.base_url, str(turn.target_agent), turn.turn.turn_id, turn.spawn_key, born]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:40]


def private_name_of(turn: TurnSnapshot) -> str:
    """Return the part that names a turn in the names of its private values.

    It has no address of a kernel: workers may have different addresses of one kernel, or of several kernels
    with one database.

    Args:
        turn: the turn.
    """
    facts = [str(turn.target_agent), turn.turn.turn_id, turn.spawn_key, turn.created_at.isoformat()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:40]


def redone_by(turn: TurnSnapshot) -> TurnRef | None:
    """Return the closed turn whose steps a turn goes on after, if it is a redo that keeps steps.

    Args:
        turn: the turn that may be a redo. Its cause is a root request with an id that the kernel made
            (difference 34).
    """
    found = re.fullmatch(r"redo:(T-[1-9][0-9]*):keep_steps", turn.cause.id)
    return TurnRef(project_id=turn.turn.project_id, turn_id=found[1]) if found else None


def child_key(parent: TurnRef, key: str) -> str:
    """Return the dispatch key of a turn's child; it is readable if the rules for keys allow it.

    Args:
        parent: the turn.
        key: the child's name within the turn.
    """
    plain = re.fullmatch(r"[A-Za-z0-9._:@/-]{1,90}", key)
    return f"{parent.turn_id}:{key if plain else hashlib.sha256(key.encode()).hexdigest()}"
