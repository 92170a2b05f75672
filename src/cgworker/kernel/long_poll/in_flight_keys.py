"""Idempotency-Keys of claims whose statement is under way in this process.

A statement cannot see what another one has not committed. Whoever asks again at that moment would be told
that there is no turn, and forget the key of one that runs for nobody until its lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from cgworker.kernel.store.claims.claim import ClaimRequest
from cgworker.wire.refs import AgentRef

_Key: TypeAlias = tuple[AgentRef, str]


class InFlightKeys:
    """Which those are, and when each is there no more."""

    def __init__(self) -> None:
        self._ends: dict[_Key, asyncio.Future[None]] = {}

    def has(self, claim: ClaimRequest) -> bool:
        """Whether the claim would meet another one."""
        return not self._ends.keys().isdisjoint(_keys_of([claim]))

    async def wait_for(self, claims: Iterable[ClaimRequest]) -> None:
        """Wait until none of the claims meets another one."""
        wanted = _keys_of(claims)
        while ends := {self._ends[key] for key in wanted & self._ends.keys()}:
            await asyncio.wait(ends)

    @contextmanager
    def holding(self, claims: Iterable[ClaimRequest]) -> Iterator[None]:
        """Within the block, a statement with these claims is under way; none of them meets another one."""
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
    return {(claim.request.agent, claim.key) for claim in claims if claim.key is not None}
