"""`Retries`: how often, and after how long, a turn whose handler raised is tried again (difference 33)."""

from __future__ import annotations

import random
from typing import Any

from attrs import field, frozen, validators

_positive: Any = validators.gt(0)


def _classes(classes: Any) -> tuple[type[BaseException], ...]:
    return (classes,) if isinstance(classes, type) else tuple(classes)


@frozen
class Retries:
    """A retry policy for the exceptions of a handler.

    Each retry suspends the turn, which holds no slot meanwhile. The ledger counts them, so that whichever
    worker has the turn next goes on counting.

    Attributes:
        count: the most retries in the turn's life; 0 is none.
        first_seconds: the seconds before the first retry. Jitter makes every wait up to half as short.
        factor: each further wait is longer by this factor.
        max_seconds: the longest wait, in seconds.
        not_for: exceptions of these classes are not retried.
    """

    count: int = field(default=5, validator=validators.ge(0))
    first_seconds: float = field(default=1.0, validator=validators.ge(0))
    factor: float = field(default=2.0, validator=validators.ge(1))
    max_seconds: float = field(default=300.0, validator=_positive)
    not_for: tuple[type[BaseException], ...] = field(default=(), converter=_classes)

    def allows(self, retry: int, raised: BaseException | None = None) -> bool:
        """Whether there is a retry of this number, from 1, after this exception."""
        return retry <= self.count and not isinstance(raised, self.not_for)

    def seconds_before(self, retry: int) -> float:
        """Return how many seconds to wait before the retry of this number, with jitter."""
        try:
            seconds = self.first_seconds * self.factor ** (retry - 1)
        except OverflowError:
            seconds = self.max_seconds
        return min(seconds, self.max_seconds) * (0.5 + random.random() / 2)
