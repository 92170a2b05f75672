"""`PrivateStore`: what a store of private values can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class PrivateStore(Protocol):
    """Keeps private values of turns outside CommonGround, for all workers that may continue the turns.

    A name is `<turn>/<value>`, both in the characters 0 to 9 and a to f. No name is written twice with
    different data, so a write that arrives late does no harm.
    """

    async def put(self, name: str, data: bytes) -> None:
        """Store data under a name. It outlives a crash of this process once this returns.

        Args:
            name: the name.
            data: the data; there may be hundreds of megabytes.
        """

    async def get(self, name: str) -> bytes | None:
        """Return the data under a name; None if this store does not have it.

        Args:
            name: the name.
        """
        ...

    async def delete(self, prefix: str) -> None:
        """Remove all names that begin with `<prefix>/`; none is no error.

        Args:
            prefix: the part of the names that stands for the turn.
        """


@runtime_checkable
class ListingStore(PrivateStore, Protocol):
    """A private store that says what it has of a turn.

    Then the records of a harness's steps can travel while the harness goes on: a step whose worker died
    before its record was in is found here.
    """

    async def names(self, prefix: str) -> list[str] | None:
        """Return all names that begin with `<prefix>/`.

        None if others could have put values there: a value with a record is held against its digest, but one
        without is taken as it is.

        Args:
            prefix: the part of the names that stands for the turn.
        """
        ...
