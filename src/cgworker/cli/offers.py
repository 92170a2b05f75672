"""Pick the offer that a command asks for."""

from __future__ import annotations

from cgworker.errors import ConflictError, NotFoundError
from cgworker.wire.projections import OfferEntry, OfferPage


def only_offer(page: OfferPage, none_found: str) -> OfferEntry:
    """Return the only offer of a page.

    Args:
        page: the page.
        none_found: the message if the page is empty.

    Raises:
        NotFoundError: the page has no offer.
        ConflictError: the page has several offers.
    """
    if not page.items:
        raise NotFoundError(none_found)
    if len(page.items) > 1:
        raise ConflictError(f"more than one offer: {page.items[0].turn_kind} of {page.items[0].agent_id}")
    return page.items[0]
