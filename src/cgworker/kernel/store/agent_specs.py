"""Specs that agents are registered with: rules, normal form and hash (wire 6.2, difference 11)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from attrs import evolve

from cgworker.errors import ConflictError, InvalidRequest
from cgworker.kernel.store.offers import normal_metadata
from cgworker.wire.agents import AgentSpec, Provenance

MAX_ID_LENGTH = 200
"""The most characters of a new project or agent id."""

MAX_INTEGER = 2**31 - 1
"""The largest capacity or count that a column holds."""

# What a header and a path carry unchanged: printable ASCII without "/", no blank at either end.
_NEW_ID = re.compile(r"(?! )[ -.0-~]*(?<! )", re.ASCII)


def check_registration(spec: AgentSpec, provenance: Provenance) -> None:
    """Refuse a registration that breaks a rule of the protocol; empty text is refused, blank is not.

    Raises:
        ConflictError: in the order and words of wire 6.2.
    """
    require(bool(spec.agent_id), "agent birth spec agent_id must be non-empty")
    require(bool(spec.role), "agent birth spec role must be non-empty")
    require(spec.capacity > 0, "agent birth spec capacity must be positive")
    require(all(spec.capabilities), "agent birth spec capabilities must contain non-empty strings")
    require(all(spec.grants), "agent birth spec grants must contain non-empty strings")
    require(bool(provenance.kind), "registration provenance kind must be non-empty")
    require(bool(provenance.external_ref), "registration provenance external_ref must be non-empty")
    has_hash = provenance.payload_hash != ""
    require(has_hash, "registration provenance payload_hash must be non-empty when provided")


def normal_spec(spec: AgentSpec) -> AgentSpec:
    """Return the spec with sorted sets and completed offers.

    Raises:
        ConflictError: the metadata breaks a rule of wire 9.
    """
    return evolve(
        spec,
        capabilities=normal_set(spec.capabilities),
        grants=normal_set(spec.grants),
        public_metadata=normal_metadata(spec.public_metadata),
    )


def normal_set(values: Iterable[str]) -> tuple[str, ...]:
    """Return each value once, sorted."""
    return tuple(sorted(set(values)))


def spec_hash(spec: AgentSpec) -> str:
    """Return the `admitted_spec_hash` of a normal spec; admission services recompute it exactly."""
    facts = {
        "accepts_work": spec.accepts_work,
        "agent_id": spec.agent_id,
        "capabilities": list(spec.capabilities),
        "capacity": spec.capacity,
        "description": spec.description,
        "enabled": spec.enabled,
        "grants": list(spec.grants),
        "public_metadata": spec.public_metadata,
        "role": spec.role,
    }
    return canonical_hash(facts)


def canonical_hash(facts: object) -> str:
    """Return the SHA-256 of canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_at_most(number: int, most: int, *, at: tuple[str, ...]) -> None:
    """Refuse a number above a maximum; `at` is its place in the request.

    Raises:
        InvalidRequest: 422.
    """
    if number > most:
        msg = f"Input should be less than or equal to {most}"
        raise InvalidRequest([{"type": "less_than_equal", "loc": list(at), "msg": msg}])


def check_new_id(id: str, *, at: tuple[str, ...]) -> None:
    """Refuse a new project or agent id that no header or path can carry (differences 11 and 38).

    Raises:
        InvalidRequest: 422.
    """
    if len(id) > MAX_ID_LENGTH or id in (".", "..") or not _NEW_ID.fullmatch(id):
        msg = (
            f"Value error, {at[-1]} must have at most {MAX_ID_LENGTH} characters, all of them printable "
            "ASCII other than '/', no blank at either end, and not be '.' or '..'"
        )
        raise InvalidRequest([{"type": "value_error", "loc": list(at), "msg": msg}])


def require(holds: bool, message: str) -> None:
    """Raise ConflictError unless a rule holds."""
    if not holds:
        raise ConflictError(message)
