"""Flags that say when and in which order a turn is claimed (difference 28)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from attrs import frozen

from cgworker.cli.options import Flag
from cgworker.cli.payload import read_duration
from cgworker.errors import UsageError
from cgworker.wire.order import Order


@frozen(kw_only=True)
class OrderFlags:
    """The flags that say when and in which order a turn is claimed."""

    delay: Annotated[
        str | None,
        Flag("--delay", metavar="DURATION", help="How long it cannot be claimed, such as 90s, 10m or 24h."),
    ] = None
    not_before: Annotated[
        str | None,
        Flag(
            "--not-before",
            metavar="TIME",
            help="When it can be claimed, such as 2026-12-24T18:00; local time without an offset.",
        ),
    ] = None
    priority: Annotated[
        int | None,
        Flag("--priority", metavar="N", min=-100, max=100, help="The higher come first, from -100 to 100."),
    ] = None
    serial_key: Annotated[
        str | None,
        Flag(
            "--serial-key",
            metavar="KEY",
            help="Of an agent's turns with one key, one runs at a time.",
        ),
    ] = None
    fairness_key: Annotated[
        str | None,
        Flag("--fairness-key", metavar="KEY", help="Turns with different keys alternate."),
    ] = None

    def read(self) -> Order:
        """Return the fields of a dispatch that are given.

        Raises:
            UsageError: the user's fault: a value has no valid form, or there are a delay and an instant.
        """
        if self.delay is not None and self.not_before is not None:
            raise UsageError("give at most one of --delay and --not-before")
        order: Order = {}
        if self.delay is not None:
            order["delay_seconds"] = read_duration(self.delay, "--delay")
        if self.not_before is not None:
            order["not_before"] = _read_instant(self.not_before)
        if self.priority is not None:
            order["priority"] = self.priority
        if self.serial_key is not None:
            order["serial_key"] = self.serial_key
        if self.fairness_key is not None:
            order["fairness_key"] = self.fairness_key
        return order


def _read_instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("--not-before must be a time like 2026-12-24T18:00 or 2026-12-24T18:00Z") from None
    return instant.astimezone()
