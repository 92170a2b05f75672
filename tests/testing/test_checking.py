"""`CommandCheck`: commands that keep the contract pass, and each way of breaking it is seen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cgworker.errors import CommandNotFound, UsageError
from cgworker.testing import checking
from cgworker.testing.checking import Check, CommandCheck

RUNTIME = Path(__file__).parents[2] / "examples" / "runtimes" / "runtime.py"
TURNS = {
    "answer": {"task": "count", "steps": 1},
    "slow": {"task": "count", "steps": 1000},
    "suspend": {"task": "approve"},
    "fail": {"task": "dance"},
    "later": {"task": "later"},
}


@pytest.fixture
def anyio_backend() -> str:
    """play() is tested on both; what takes its time here are processes."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stop soon, wait less, and keep checkpoints out of the home."""
    monkeypatch.setattr(checking, "_STOP_AFTER_SECONDS", 0.5)
    monkeypatch.setattr(checking, "_GRACE_SECONDS", 1.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


async def card(argv: list[str], turns: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Check]:
    examination = CommandCheck(argv, turns or {}, **settings)
    return {check.name: check async for check in examination.run()}


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


ANSWER = "echo '{}' > $CG_FINAL_FILE"


async def test_a_runtime_that_keeps_the_whole_contract_passes_everything() -> None:
    """The one of the examples, with the inputs that make it show what it can."""
    checks = await card([sys.executable, str(RUNTIME)], TURNS)
    assert {name: check.verdict for name, check in checks.items()} == dict.fromkeys(checks, "passed")
    assert len(checks) == 12


async def test_what_a_simple_command_does_not_do_is_not_shown() -> None:
    """It answers at once: it cannot be seen to stop, and nobody said how it suspends."""
    checks = await card(sh(ANSWER))
    shown = {name for name, check in checks.items() if check.verdict != "not shown"}
    assert shown == {"answer", "any input", "big context", "output", "grandchild"}
    assert all(checks[name].verdict == "passed" for name in shown)
    assert "as 'slow' (--turns-json)" in checks["stop"].detail


@pytest.mark.parametrize(
    ("script", "name", "told"),
    [
        ("exit 3", "answer", "worker_command_failed, exit status 3"),
        ("true", "answer", "worker_command_missing_final"),
        ("printf '{\"half\":' > $CG_FINAL_FILE", "answer", "worker_final_invalid"),
        ("grep -q task $CG_INPUT_FILE && " + ANSWER + " || kill -SEGV $$", "any input", "signal 11"),
        (f"if test $(wc -c < $CG_CONTEXT_FILE) -lt 20000; then {ANSWER}; fi", "big context", "missing"),
        (ANSWER + "; head -c 5000000 /dev/zero | tr '\\0' 'x' | fold -w 5000", "output", "more than 4 MiB"),
        (ANSWER + "; setsid sleep 3 > /dev/null 2>&1 &", "grandchild", "outlived their turns"),
    ],
)
async def test_each_way_of_breaking_the_contract_is_seen(script: str, name: str, told: str) -> None:
    """By the check that is named for it, which says what it saw."""
    check = (await card(sh(script)))[name]
    assert (check.verdict, told in check.detail) == ("failed", True), check


async def test_a_command_that_ignores_what_ends_it_is_seen() -> None:
    """By each of the two checks."""
    deaf = "trap '' TERM; grep -q slow $CG_INPUT_FILE && sleep 5; " + ANSWER
    checks = await card(sh(deaf), {"slow": "slow"})
    assert "SIGTERM did not end it" in checks["SIGTERM"].detail
    assert "neither CG_STOP_FILE nor SIGTERM" in checks["stop"].detail
    assert {checks["stop"].verdict, checks["SIGTERM"].verdict} == {"failed"}


async def test_a_command_that_takes_too_long_fails() -> None:
    """The limit is the caller's."""
    check = (await card(sh("sleep 60"), seconds=0.3))["answer"]
    assert (check.verdict, "it took too long" in check.detail) == ("failed", True)


async def test_a_turn_that_does_something_else_than_said_fails() -> None:
    """Who names an input for suspending says that it suspends."""
    checks = await card(sh(ANSWER), {"suspend": 1, "fail": 2, "later": 3})
    assert {checks[name].verdict for name in ("suspend", "fail", "later")} == {"failed"}


async def test_what_cannot_be_checked_is_refused() -> None:
    """A command that is not there, and a turn that there is no check for."""
    with pytest.raises(CommandNotFound):
        await card(["/no/such"])
    with pytest.raises(UsageError, match=r"no turn slowly to check with.*slow: a turn"):
        await card(sh(ANSWER), {"slowly": 1})
