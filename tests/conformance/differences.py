"""Every step in which our kernel may answer otherwise than the reference did, and the decision that says so."""

from __future__ import annotations

DIFFERENCES: frozenset[tuple[str, str, int]] = frozenset()
