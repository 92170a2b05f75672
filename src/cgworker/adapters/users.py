"""Tell the users of an adapter's server apart."""

from __future__ import annotations

import hashlib
from typing import Any


def user_id_of(user: Any) -> str:
    """Return the id of a user whom an authentication middleware has let in.

    Two users may have one name to display. Starlette's `identity` tells them apart, but not all user classes
    have one.

    Args:
        user: the user in a request's scope; None if nobody authenticates callers, who then are one user.
    """
    if user is None:
        return ""
    try:
        return str(user.identity or user.display_name)
    except (AttributeError, NotImplementedError):
        return str(user.display_name)


def user_digest_of(user: Any) -> str:
    """Return a text that tells a user from others and can be published: the id may be an e-mail address.

    Args:
        user: as for `user_id_of`; empty for None.
    """
    user_id = user_id_of(user)
    return hashlib.sha256(user_id.encode()).hexdigest()[:32] if user_id else ""
