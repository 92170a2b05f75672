"""The Idempotency-Keys of claims whose statement is in flight in this process.

A statement cannot see what another has not yet committed. A client that repeats a claim at that moment would
get "no turn" and drop its key, while the turn of the first claim runs unowned until its lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from cgworker.kernel.store.claims.reclaim import ClaimRequest

_Key: TypeAlias = tuple[str, str, str]


class InFlightKeys:
    """The keys in flight, each with the end of its statement."""

    def __init__(self) -> None:
        self._ends: dict[_Key, asyncio.Future[None]] = {}

    def has(self, claim: ClaimRequest) -> bool:
        """Whether a claim with the same key is in flight."""
        return not self._ends.keys().isdisjoint(_keys_of([claim]))

    async def wait_for(self, claims: Iterable[ClaimRequest]) -> None:
        """Wait until no claim with one of the keys is in flight."""
        wanted = _keys_of(claims)
        while ends := {self._ends[key] for key in wanted & self._ends.keys()}:
            await asyncio.wait(ends)

    @contextmanager
    def holding(self, claims: Iterable[ClaimRequest]) -> Iterator[None]:
        """Mark the claims as in flight within the block; no claim with one of their keys may be."""
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held = dict.fromkeys(_keys_of(claims), end)
        self._ends |= held
        try:
            yield
        finally:
            for key in held:
                del self._ends[key]
            end.set_result(None)


def _keys_of(claims: Iterable[ClaimRequest]) -> set[_Key]:
    return {
        (claim.request.agent.project_id, claim.request.agent.agent_id, claim.key)
        for claim in claims
        if claim.key is not None
    }
