"""`cg schedule`: turns that the kernel dispatches by a calendar (difference 31)."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import cgworker.cli.schedule_views  # noqa: F401  # how a list of schedules looks
from cgworker.cli.schedule_results import Schedules
from cgworker.cli.views import picture
from cgworker.wire.converter import structure_answer
from tests.cli.conftest import Cg, Kernel


@pytest.fixture
def maker(cg: Cg, kernel: Kernel) -> str:
    """The profile of an agent that makes schedules."""
    return kernel.profile(cg, "maker", capacity=9)


def test_a_schedule_is_set_shown_paused_triggered_and_deleted(cg: Cg, maker: str) -> None:
    """Each command gives the schedule as it stands then."""
    made = cg(
        *("schedule", "set", "nightly", "--profile", maker, "--cron", "30 2 * * *"),
        *("--timezone", "Europe/Berlin", "--target-agent", "maker", "--payload-json", '{"do": "it"}'),
        *("--overlap", "skip", "--catch-up", "none", "--jitter", "90s", "--delay", "10m"),
        *("--priority", "-3", "--serial-key", "a", "--fairness-key", "b"),
    ).result
    order = ("delay_seconds", "priority", "serial_key", "fairness_key")
    assert [made[name] for name in order] == [600, -3, "a", "b"]
    assert (made["cron"], made["timezone"], made["overlap"], made["catch_up"], made["jitter_seconds"]) == (
        "30 2 * * *",
        "Europe/Berlin",
        "skip",
        "none",
        90,
    )
    assert cg("schedule", "show", "nightly", "--profile", maker).result == made
    assert cg("schedule", "list", "--profile", maker).result["items"] == [made]
    paused = cg("schedule", "pause", "nightly", "--profile", maker).result
    assert (paused["paused"], paused["next_at"]) == (True, None)
    assert cg("schedule", "unpause", "nightly", "--profile", maker).result["next_at"] == made["next_at"]
    first = cg("schedule", "trigger", "nightly", "--key", "k", "--profile", maker).result
    assert cg("schedule", "trigger", "nightly", "--key", "k", "--profile", maker).result == first
    assert cg("schedule", "delete", "nightly", "--profile", maker).result["schedule_id"] == "nightly"
    assert cg("schedule", "list", "--profile", maker).result["items"] == []


def test_a_list_is_a_table_on_a_terminal(cg: Cg, kernel: Kernel, maker: str) -> None:
    """With what is next and last, and a word for those that are paused."""
    for name in ("hourly", "idle"):
        cg(
            *("schedule", "set", name, "--profile", maker, "--cron", "@every 1h"),
            *("--target-agent", "maker", "--payload-json", "1"),
        )
    cg("schedule", "pause", "idle", "--profile", maker)
    found = cg("schedule", "list", "--profile", maker).result
    page = structure_answer(Schedules, found)
    out = io.StringIO()
    Console(width=120, file=out).print(picture(page))
    shown = out.getvalue()
    assert "@every 1h" in shown
    assert "paused" in shown
    assert kernel.project == page.project_id
    for name in ("hourly", "idle"):
        cg("schedule", "delete", name, "--profile", maker)
    assert "no schedules" in str(picture(structure_answer(Schedules, {**found, "items": []})))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--cron", "61 * * * *"), "cron is no cron expression"),
        (("--cron", "@every 1h", "--timezone", "Mars/Base"), "is no time zone"),
        (("--cron", "@every 1h", "--jitter", "90"), "--jitter must be a duration like"),
    ],
)
def test_what_is_no_schedule_is_told(cg: Cg, maker: str, flags: tuple[str, ...], said: str) -> None:
    """In words that name the flag or field."""
    refused = cg(
        *("schedule", "set", "bad", "--profile", maker, "--target-agent", "maker", "--payload-json", "1"),
        *flags,
    )
    assert said in refused.error["message"]
