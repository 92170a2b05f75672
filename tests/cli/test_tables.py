"""Tables and waits on a terminal of 80 columns: words stay whole, and nothing is silent for long."""

from __future__ import annotations

import io
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cgworker.cli.progress import no_progress, progress
from cgworker.cli.rendering import _MAX_WORD, duration, plain_text, short_time, table

WORD = st.text("abcdefghij.-_0123456789", min_size=1, max_size=_MAX_WORD)
CELL = st.lists(WORD, max_size=6).map(" ".join)


def drawn(renderable: Any, width: int = 80) -> str:
    """What a terminal of that width shows."""
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(renderable, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(st.lists(st.lists(CELL, min_size=7, max_size=7), min_size=1, max_size=4))
def test_a_table_keeps_words_whole_and_fits(rows: list[list[str]]) -> None:
    """As columns if their words fit beside each other, and else a row becomes a block."""
    columns = {f"c{n}": (lambda row, n=n: row[n]) for n in range(7)}
    shown = drawn(table(rows, **columns))
    assert all(len(line) <= 80 for line in shown.splitlines())
    seen = set(shown.split())
    assert {word for row in rows for cell in row for word in cell.split()} <= seen


def test_the_turns_of_a_project_fit_beside_each_other() -> None:
    """A list of turns at 80 columns is a table: this is the view that is looked at most."""
    row = (
        "T-1234",
        "worker-1",
        "turn.conversation.v1",
        "suspended",
        "cli-1",
        "2026-11-28 23:59:59",
        "12.5 s",
    )
    names = ("turn", "agent", "kind", "state", "cause", "born", "took")
    cells = {name: (lambda row, n=n: row[n]) for n, name in enumerate(names)}
    lines = drawn(table([row, row], **cells)).splitlines()
    assert lines[0].split() == list(names)
    assert sum("turn.conversation.v1" in line for line in lines) == 2


def test_a_word_longer_than_a_column_folds() -> None:
    """Nothing is cut: a key of 64 digits is there, in several lines."""
    key = "0123456789abcdef" * 4
    shown = drawn(table([key], turn=lambda _: "T-1", key=lambda k: k), width=30)
    assert key in "".join(shown.split())
    assert drawn(plain_text("x" * 200)).replace("\n", "") == "x" * 200


def test_an_instant_of_today_is_one_word_and_so_is_a_duration() -> None:
    """A column of times takes eight characters; what is older has its day."""
    now = datetime.now().astimezone()
    assert " " not in short_time(now, now)
    assert short_time(now - timedelta(days=2), now).count(" ") == 1
    assert duration(0.44) == "0.4\u00a0s"


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Make stderr a terminal, for the rest of the test."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_a_wait_says_what_it_waits_for_once_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; and nothing is left of the line at the end."""
    terminal = a_terminal(monkeypatch)
    with progress("waiting for T-7", after_seconds=0.05) as say:
        assert terminal.getvalue() == ""
        say("T-7 is queued")
        until(lambda: "T-7 is queued" in terminal.getvalue())
    with progress("never seen", after_seconds=60):
        pass
    assert "never seen" not in terminal.getvalue()


def test_an_inner_wait_is_shown_in_place_of_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none while the command writes to the terminal itself."""
    terminal = a_terminal(monkeypatch)
    with progress("outer"):
        with progress("inner"):
            until(lambda: "inner" in terminal.getvalue())
        with no_progress():
            before = terminal.getvalue()
            time.sleep(0.2)  # two frames of the line
            assert terminal.getvalue() == before


def until(holds: Any) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
