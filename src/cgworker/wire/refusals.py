"""Refusals that only their wording distinguishes. The kernel sends them, and a client acts on them.

The protocol gives these refusals no codes of their own, so their wording is part of it (wire 3).
"""

from __future__ import annotations

from enum import Enum

from cgworker.errors import FencingError, ForbiddenError, KernelRefused, UnauthorizedError


class Refusal(Enum):
    """A refusal: its error class, and the words that its message begins with."""

    # The request does not say who asks.
    IDENTITY_MISSING = UnauthorizedError, "claimed agent identity headers are required"
    TOKEN_MALFORMED = UnauthorizedError, "invalid agent credential token format"

    # The credential will never work again.
    CREDENTIAL_UNKNOWN = UnauthorizedError, "agent credential not found"
    CREDENTIAL_SECRET_WRONG = UnauthorizedError, "invalid agent credential secret"
    CREDENTIAL_NOT_ACTIVE = ForbiddenError, "agent credential status is not active"
    CREDENTIAL_EXPIRED = UnauthorizedError, "agent credential expired"
    CREDENTIAL_ENDED_MEANWHILE = UnauthorizedError, "agent credential is no longer active"

    # A grant is missing.
    MAY_NOT_RESUME = FencingError, "requested_by is not authorized to resume this turn"
    MAY_NOT_STOP = FencingError, "requested_by is not authorized to stop this turn"
    MAY_NOT_TELL = FencingError, "requested_by is not authorized to tell this turn anything"
    MAY_NOT_SET_ACCEPTS_WORK = FencingError, "requested_by is not authorized to update agent accepts_work"
    MAY_NOT_DISPATCH_CHILD = (
        FencingError,
        "requested_by is not authorized to dispatch child for this parent claim",
    )

    def error(self, detail: str = "") -> KernelRefused:
        """Return the exception that makes the kernel answer with this refusal.

        Args:
            detail: the text after the words and a colon; empty adds nothing.
        """
        kind: type[KernelRefused]
        kind, words = self.value
        return kind(f"{words}: {detail}" if detail else words)

    @classmethod
    def of(cls, error: Exception) -> Refusal | None:
        """Return the refusal that an error of the kernel is; None if it is none of these.

        Args:
            error: the error.
        """
        for refusal in cls:
            kind, words = refusal.value
            if isinstance(error, kind) and error.message.partition(": ")[0] == words:
                return refusal
        return None
