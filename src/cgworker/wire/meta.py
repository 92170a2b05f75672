"""Optional data of any request: the caller's annotations, and a trace that kernels discard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen(kw_only=True)
class Meta:
    """The caller's annotations. The ledger event keeps them under `annotations.caller` (wire 8.1)."""

    note: str | None = None
    reason: str | None = None
    annotations: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Trace:
    """A trace; it is accepted everywhere and discarded, as in the reference (wire 5)."""

    trace_id: str | None = None
    parent_trace_id: str | None = None
    recursion_depth: int = 0
