"""Flags of `cg dispatch` that say when and in which order a turn is claimed (difference 28)."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.cli.conftest import Cg, Kernel


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    """The id of a new agent with a profile."""
    agent_id = f"desk-{secrets.token_hex(3)}"
    kernel.profile(cg, agent_id)
    return agent_id


def dispatch(cg: Cg, kernel: Kernel, desk: str, *flags: str) -> Any:
    profile = f"{kernel.project}/{desk}"
    return cg(
        *("dispatch", "--profile", profile, "--project-id", kernel.project, "--requested-by", desk),
        *("--target-agent", desk, "--turn-kind", "turn.conversation.v1", "--payload-json", "1"),
        *("--request-id", secrets.token_hex(4), *flags),
    )


def test_the_flags_become_fields_of_the_dispatch(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The turn's snapshot shows them."""
    flags = ("--priority", "-5", "--serial-key", "conversation-17", "--fairness-key", "tenant-a")
    turn_id = dispatch(cg, kernel, desk, *flags, "--not-before", "2126-01-01T00:00+01:00").result["turn_id"]
    profile = f"{kernel.project}/{desk}"
    shown = cg("turn", "get", "--turn-id", turn_id, "--project-id", kernel.project, "--profile", profile)
    turn = shown.result["snapshot"]
    assert (turn["priority"], turn["serial_key"], turn["fairness_key"]) == (-5, "conversation-17", "tenant-a")
    assert turn["not_before"] == "2125-12-31T23:00:00+00:00"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--delay", "10"), "--delay must be a duration like 24h, 60m, or 3600s"),
        (("--not-before", "tomorrow"), "--not-before must be a time like 2026-12-24T18:00"),
        (("--delay", "10m", "--not-before", "2126-01-01T00:00"), "give at most one of --delay and"),
    ],
)
def test_a_bad_time_is_refused(
    cg: Cg, kernel: Kernel, desk: str, flags: tuple[str, ...], message: str
) -> None:
    """Before anything is sent; a duration needs its unit."""
    assert message in dispatch(cg, kernel, desk, *flags).error["message"]


def test_a_delayed_turn_waits(cg: Cg, kernel: Kernel, desk: str) -> None:
    """`--delay 10m` is ten minutes from now, by the kernel's clock."""
    turn_id = dispatch(cg, kernel, desk, "--delay", "10m").result["turn_id"]
    profile = f"{kernel.project}/{desk}"
    assert cg("worker", "why", turn_id, "--profile", profile).result["because"] == ["due in 10 min"]
