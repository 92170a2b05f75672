"""Read from the ledger why a turn was suspended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from cgworker.wire.ledger import LedgerEvent


@frozen
class SuspensionCause:
    """Why a turn was suspended: the reason and the caller's annotations."""

    reason: str | None
    annotations: Mapping[str, Any]

    @property
    def not_before(self) -> datetime | None:
        """The instant from which the turn may be resumed; None is at once."""
        try:
            instant = datetime.fromisoformat(str(self.annotations["not_before"]))
        except (KeyError, ValueError):
            return None
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def cause_of_suspension(event: LedgerEvent) -> SuspensionCause:
    """Return the cause that the caller gave when it suspended the turn."""
    caller = event.annotations.get("caller")
    caller = caller if isinstance(caller, Mapping) else {}
    said = caller.get("annotations")
    return SuspensionCause(caller.get("reason"), said if isinstance(said, Mapping) else {})
