"""Timetables: the instants of a cron expression in a time zone, or of a regular interval (difference 31).

All instants are compared in UTC. Where the wall clock jumps, it does not order instants: asked in the second
01:15 of the night in which clocks are set back, cronsim answers with the first 01:30, which has passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen
from cronsim import CronSim, CronSimError

from cgworker.errors import InvalidRequest

_EVERY = re.compile(r"@every\s+([1-9][0-9]{0,6})(s|m|h|d)\Z")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIELD_COUNT = 5
_MAX_CHARACTERS = 500  # all values of all five fields have 356
_MAX_INTERVAL = timedelta(days=36_500)
_A_MOMENT = timedelta(seconds=1)
_NIGHT = timedelta(hours=3)  # longer than clocks are ever set back by
# Files beside the zones that say other things on each machine, or count leap seconds.
_NO_ZONES = re.compile(r"localtime|posixrules|(posix|right)/.*")


@frozen
class Timetable:
    """When a schedule is due.

    Args:
        cron: five fields of cron, or `@every 15m`.
        timezone: the IANA name of the time zone of the five fields.
        anchor: from when on a regular interval counts.
    """

    cron: str
    timezone: str
    anchor: datetime

    def check(self) -> None:
        """Raise InvalidRequest unless the expression and the time zone can be used."""
        zone = self.check_timezone()
        if len(self.cron) > _MAX_CHARACTERS:
            raise _unusable(
                "cron", f"must have at most {_MAX_CHARACTERS} characters, and has {len(self.cron)}"
            )
        if self._interval is not None:
            if self._interval > _MAX_INTERVAL:
                raise _unusable("cron", f"must be at most '@every {_MAX_INTERVAL.days}d'")
            return
        if len(self.cron.split()) != _FIELD_COUNT:
            raise _unusable("cron", "must have the five fields of cron, or be like '@every 15m'")
        try:
            CronSim(self.cron, self.anchor.astimezone(zone))
        except CronSimError as broken:
            raise _unusable("cron", f"is no cron expression: {broken}") from None

    def check_timezone(self) -> ZoneInfo:
        """Return the time zone; raise InvalidRequest if this machine does not know it."""
        try:
            zone = None if _NO_ZONES.fullmatch(self.timezone) else ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            zone = None
        if zone is None:
            raise _unusable("timezone", "is no time zone, such as 'Europe/Berlin' or 'UTC'")
        return zone

    def following(self, after: datetime) -> datetime | None:
        """Return the first instant after another one, in UTC; None if there is none in fifty years."""
        return next(self._all_after(after), None)

    def until(self, first: datetime, now: datetime, limit: int) -> list[datetime]:
        """Return the last instants that are due now, at most `limit` of them, oldest first.

        Args:
            first: the earliest of them.
            now: the latest instant that is due.
            limit: the most instants to return.
        """
        found = list(islice(self._all_after(first - _A_MOMENT), limit + 1))
        if len(found) <= limit or found[-1] > now:
            return [instant for instant in found if instant <= now]
        return self._last_until(first, now, limit)

    @property
    def _interval(self) -> timedelta | None:
        every = _EVERY.match(self.cron)
        return None if every is None else timedelta(seconds=int(every[1]) * _UNIT_SECONDS[every[2]])

    def _all_after(self, after: datetime) -> Iterator[datetime]:
        if (interval := self._interval) is not None:
            first = max(1, (after - self.anchor) // interval + 1)
            with suppress(OverflowError):  # after the year 9999
                yield from (self.anchor + nth * interval for nth in count(first))
            return
        begin = after
        if self._is_set_back_near(after):
            begin = after - _NIGHT  # within that night cronsim cannot begin, but it can pass through it
        latest = after
        for local in CronSim(self.cron, begin.astimezone(ZoneInfo(self.timezone))):
            instant = local.astimezone(UTC)
            if instant > latest:
                yield instant
                latest = instant

    def _is_set_back_near(self, instant: datetime) -> bool:
        zone = ZoneInfo(self.timezone)
        before, after = ((instant + each).astimezone(zone).utcoffset() for each in (-_NIGHT, _NIGHT))
        return before is not None and after is not None and after < before

    def _last_until(self, first: datetime, now: datetime, limit: int) -> list[datetime]:
        if (interval := self._interval) is not None:
            last = (now - self.anchor) // interval
            return [self.anchor + (last - back) * interval for back in reversed(range(limit))]
        found: list[datetime] = []
        begin = (now + timedelta(minutes=1)).astimezone(ZoneInfo(self.timezone))
        for local in CronSim(self.cron, begin, reverse=True):
            instant = local.astimezone(UTC)
            if instant < first or len(found) == limit:
                break
            # Backwards cronsim may differ where clocks change; forwards decides.
            if instant <= now and self.following(instant - _A_MOMENT) == instant:
                found.append(instant)
        return sorted(set(found))


def _unusable(field: str, why: str) -> InvalidRequest:
    msg = f"Value error, {field} {why}"
    return InvalidRequest([{"type": "value_error", "loc": ["body", field], "msg": msg}])
