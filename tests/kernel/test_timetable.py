"""Instants of cron expressions, where clocks change above all (difference 31)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgworker.errors import InvalidRequest
from cgworker.kernel.store.timetable import Timetable

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"


def at(text: str) -> datetime:
    """An instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def instants(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next instants, each asked for after the one before."""
    table, found, instant = Timetable(cron, zone, ANCHOR), [], at(after)
    for _ in range(count):
        following = table.following(instant)
        assert following is not None
        assert following > instant
        instant = following
        found.append(f"{instant:%m-%d %H:%M}")
    return found


def test_a_time_of_day_that_does_not_exist_is_the_next_that_does() -> None:
    """Clocks go from 02:00 to 03:00 in New York on March 8: 02:30 is 03:00 that day."""
    assert instants("30 2 * * *", NEW_YORK, "2026-03-07 12:00", 3) == [
        "03-08 07:00",
        "03-09 06:30",
        "03-10 06:30",
    ]


def test_a_time_of_day_that_comes_twice_is_due_once() -> None:
    """Clocks go from 02:00 back to 01:00 on November 1: 01:30 is the first one alone."""
    assert instants("30 1 * * *", NEW_YORK, "2026-10-31 12:00", 3) == [
        "11-01 05:30",
        "11-02 06:30",
        "11-03 06:30",
    ]


@pytest.mark.parametrize("after", ["05:15", "05:45", "06:15", "06:16", "06:45"])
def test_nothing_is_due_in_the_past(after: str) -> None:
    """Asked in the second 01:15 of that night as well: cronsim alone answers with the first 01:30."""
    [found] = instants("30 1 * * *", NEW_YORK, f"2026-11-01 {after}", 1)
    assert found == ("11-01 05:30" if after < "05:30" else "11-02 06:30")


def test_a_star_in_the_minutes_goes_on_through_the_night() -> None:
    """Every quarter of an hour stays one: by the time that passes, not by the clock on the wall."""
    found = instants("*/15 * * * *", BERLIN, "2026-10-24 23:40", 12)
    assert found[:2] == ["10-24 23:45", "10-25 00:00"]
    moments = [at(f"2026-{each}") for each in found]
    assert {late - early for early, late in pairwise(moments)} == {timedelta(minutes=15)}


def test_a_leap_day_comes_every_four_years() -> None:
    """And in no other year."""
    table = Timetable("0 12 29 2 *", "UTC", ANCHOR)
    first = table.following(ANCHOR)
    assert first == at("2028-02-29 12:00")
    assert table.following(first) == at("2032-02-29 12:00")


def test_an_interval_counts_from_its_anchor() -> None:
    """Whatever the wall clock does."""
    table = Timetable("@every 90m", BERLIN, at("2026-03-29 00:10"))
    assert table.following(at("2026-03-29 00:10")) == at("2026-03-29 01:40")
    assert table.following(at("2026-03-29 01:40")) == at("2026-03-29 03:10")
    assert table.following(at("2020-01-01 00:00")) == at("2026-03-29 01:40")


@given(
    cron=st.sampled_from(["30 1 * * *", "*/20 * * * *", "0 */2 * * *", "30 2-3 * * *", "@every 7m"]),
    zone=st.sampled_from([NEW_YORK, BERLIN, "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    days=st.integers(0, 16 * 365),
    hours=st.integers(0, 72),
    limit=st.sampled_from([1, 3, 100]),
)
def test_the_last_instants_are_the_end_of_all_of_them(
    cron: str, zone: str, days: int, hours: int, limit: int
) -> None:
    """However they are found: forwards one by one, or backwards from now."""
    table = Timetable(cron, zone, datetime(2010, 1, 1, tzinfo=UTC))
    first = table.following(at("2011-01-01") + timedelta(days=days))
    assert first is not None
    now, all_of_them, instant = first + timedelta(hours=hours), [], first
    while instant <= now:
        all_of_them.append(instant)
        following = table.following(instant)
        assert following is not None
        assert following > instant
        instant = following
    assert table.until(first, now, limit) == all_of_them[-limit:]


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [
        ("* * * *", "UTC", "cron"),
        ("* * * * * *", "UTC", "cron"),
        ("61 * * * *", "UTC", "cron"),
        ("@daily", "UTC", "cron"),
        ("@every 0m", "UTC", "cron"),
        ("@every 15", "UTC", "cron"),
        ("@every 36501d", "UTC", "cron"),
        ("@every 9999999d", "UTC", "cron"),
        ("", "UTC", "cron"),
        (f"{','.join(['0'] * 10_000)} 0 * * *", "UTC", "cron"),
        ("0 0 * * *", "Nowhere/Atall", "timezone"),
        ("0 0 * * *", "../etc/passwd", "timezone"),
        ("0 0 * * *", "", "timezone"),
    ],
)
def test_what_is_no_timetable_is_refused(cron: str, zone: str, field: str) -> None:
    """The fault names the field."""
    with pytest.raises(InvalidRequest) as refused:
        Timetable(cron, zone, ANCHOR).check()
    assert [fault["loc"] for fault in refused.value.faults] == [["body", field]]


def test_an_interval_ends_with_the_calendar() -> None:
    """There is no instant after the year 9999."""
    century = Timetable("@every 36500d", "UTC", ANCHOR)
    century.check()
    assert len(century.until(ANCHOR, ANCHOR + timedelta(days=36_500), 100)) == 1
    assert century.following(datetime(9999, 12, 1, tzinfo=UTC)) is None
