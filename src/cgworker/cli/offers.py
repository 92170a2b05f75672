"""The offer that a command asks for, out of a page of offers."""

from __future__ import annotations

from cgworker.errors import ConflictError, NotFoundError
from cgworker.wire.projections import OfferEntry, OfferPage


def only_offer(page: OfferPage, none_found: str) -> OfferEntry:
    """The only offer of a page.

    Raises:
        NotFoundError: there is none; says `none_found`.
        ConflictError: there are two.
    """
    if not page.items:
        raise NotFoundError(none_found)
    if len(page.items) > 1:
        raise ConflictError(f"more than one offer: {page.items[0].turn_kind} of {page.items[0].agent_id}")
    return page.items[0]
