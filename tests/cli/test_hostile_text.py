"""What other agents wrote reaches a person as text: it drives no terminal, is no markup, and is not cut."""

from __future__ import annotations

import io
import json
import logging
import types
import unicodedata
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from cgworker.cli import results, worker_results
from cgworker.cli.envelope import write_failure, write_line, write_problem
from cgworker.cli.problems import Problem
from cgworker.cli.progress import progress
from cgworker.cli.rendering import json_of
from cgworker.cli.views import picture, show, show_problem
from cgworker.events import LeaseEnded, log_event
from cgworker.printable import PrintableFormatter, printable, printable_json
from cgworker.testing.checking import Check as CommandCheck
from cgworker.wire.refs import AgentRef, TurnRef

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARK = "\u220e"  # what is counted
MARKUP = "[red]\u03a9[/red]"

TRICKS = (
    "\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\x90q\x9c", "\r", "\x08", "\x7f", "\x00",
    "\u202e", "\u2066", "\u200e", "\u2028", "\u2029", "\x85", "\ufeff", "\U000e0041",
)  # fmt: skip
MARKUPS = (
    MARKUP,
    "[/b]",
    "[",
    "]",
    "\\",
    ":smile:",
    "[link=http://x]",
    "{",
    '"',
    "\n",
    "\t",
    "é",
    "字",
    "👩\u200d💻",
)

texts = st.lists(st.sampled_from([*TRICKS, *MARKUPS, MARK * 3, "word "]), min_size=1, max_size=6).map("".join)
values = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


@cache
def hostile(kind: Any) -> SearchStrategy[Any]:
    """Values of a type, with hostile text wherever there can be text."""
    simple: dict[Any, SearchStrategy[Any]] = {
        str: texts,
        Any: values,
        bool: st.booleans(),
        int: st.integers(0, 99),
        float: st.floats(0, 99),
        datetime: st.just(NOW),
        type(None): st.none(),
    }
    if kind in simple:
        return simple[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        told = [each for each in args if each is not type(None) and not is_enum(each)]
        return st.one_of([hostile(each) for each in told or args])
    if origin is tuple:
        return st.lists(hostile(args[0]), min_size=1, max_size=2).map(tuple)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Mapping, dict):
        return st.dictionaries(texts, hostile(args[1]), max_size=2)
    if is_enum(kind):
        return st.sampled_from(kind)
    hints = get_type_hints(kind)
    fields = {each.name.lstrip("_"): hostile(hints[each.name]) for each in attrs.fields(kind) if each.init}
    return st.builds(kind, **fields)


def is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def own_types(module: types.ModuleType) -> set[type]:
    return {
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and attrs.has(kind) and kind.__module__ == module.__name__
    }


VIEWS = sorted(
    {kind for kind in picture.registry if kind is not object}
    | own_types(results)
    | own_types(worker_results),
    key=lambda kind: (kind.__module__, kind.__qualname__),
)  # whatever has a picture of its own, and whatever a command answers


def shown(result: Any, width: int = 1500) -> str:
    """What `show` prints on a terminal of that width."""
    out = io.StringIO()
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        show(result)
    return out.getvalue()


def tricks_in(text: str, allowed: str = "\n") -> set[str]:
    """Characters that a terminal would not show but obey."""
    unfit = {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    return unfit - set(allowed) - {"\u200d"}


def assert_harmless(text: str) -> None:
    assert not tricks_in(text), text
    assert "😄" not in text
    assert text.count("\u03a9") == text.count(MARKUP), text


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__qualname__)
@settings(max_examples=12)
@given(data=st.data())
def test_no_view_lets_text_drive_the_terminal_or_cuts_it(kind: type, data: st.DataObject) -> None:
    """No control characters, no direction marks, no markup: in titles, cells, notes and JSON.

    A narrow terminal shows as much of it as a wide one, or says by an ellipsis that there is more.
    """
    result = data.draw(hostile(kind))
    if kind is worker_results.CheckCard:
        result = attrs.evolve(result, checks=(data.draw(hostile(CommandCheck)),))
    if kind is worker_results.Replay:
        result = attrs.evolve(result, now={"outcome": data.draw(texts), "payload": None})
    wide, narrow = shown(result), shown(result, 60)
    assert_harmless(wide)
    assert not tricks_in(narrow)
    assert narrow.count(MARK) == wide.count(MARK) or "…" in narrow


@given(message=texts, code=texts, advice=texts)
def test_no_error_drives_the_terminal(message: str, code: str, advice: str) -> None:
    """As a picture, as a hint beside the envelope, and as the line of a server."""
    problem = Problem(code, message, 400, advice)
    for write in (show_problem, write_failure):
        told = io.StringIO()
        with redirect_stderr(told):
            write(problem)
        assert not tricks_in(told.getvalue(), "\n\t")
        assert "😄" not in told.getvalue()


@given(value=values)
def test_json_is_exact_in_a_pipe_and_printable_on_a_terminal(value: Any) -> None:
    """The value is the same; only on a terminal are characters spelled as escapes."""
    piped, drawn = (_line(value, is_terminal) for is_terminal in (False, True))
    assert json.loads(piped) == json.loads(drawn) == value
    assert "\\u009b" not in piped
    assert not tricks_in(drawn)


def _line(value: Any, is_terminal: bool) -> str:
    class Stream(io.TextIOWrapper):
        def isatty(self) -> bool:
            return is_terminal

    stream = Stream(io.BytesIO(), "utf-8")
    with redirect_stdout(stream):
        write_line(value)
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


@given(text=texts)
def test_printable_text_says_all_that_was_there(text: str) -> None:
    """Spelled out, not dropped; and as JSON it is still the same value."""
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text
    assert len(printable(text)) >= len(text)
    assert not tricks_in(printable(text, keep=""), "")


def test_what_people_type_is_left_as_it_is() -> None:
    """Emoji of several parts, spaces of other widths, a script that is written to the left."""
    for text in ("👩\u200d💻", "a\u00a0b", "字\u3000字", "שלום"):
        assert printable(text) == text
    assert printable("a\u202eb\x1b") == "a\\u202eb\\x1b"


def test_no_line_of_the_log_is_driven_or_forged() -> None:
    """An event's facts stay in their line; what is logged otherwise keeps the lines of its traceback."""
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    kept = Kept()
    logging.getLogger("cgworker").addHandler(kept)
    turn, agent = TurnRef(project_id="p", turn_id="T-1"), AgentRef(project_id="p", agent_id="a")
    try:
        log_event(LeaseEnded(turn=turn, agent=agent, attempt=1, reason="\x1b[2J\nINFO forged"))
    finally:
        logging.getLogger("cgworker").removeHandler(kept)
    assert "reason=\\x1b[2J\\x0aINFO forged" in records[0].getMessage()
    other = logging.LogRecord("x", logging.INFO, "x", 1, "%s", ("\x1b[2J\u202e",), None)
    assert PrintableFormatter("%(message)s").format(other) == "\\x1b[2J\\u202e"


def test_a_number_is_shown_as_it_was_sent() -> None:
    """Also one that a float cannot hold."""
    from cgworker.wire.converter import loads

    assert "1e400" in str(json_of(loads('{"n": 1e400}')))


def test_what_is_waited_for_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that says what is waited for names things of others, too."""
    told = io.StringIO()
    told.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(told), progress("[/b] \x9b31m") as say:
        say("[/x]\u202e")
    assert not tricks_in(told.getvalue(), "\n\x1b\r")


def test_problems_are_pictures_on_a_terminal_only() -> None:
    """A program gets the code and the message to the letter."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        write_problem(Problem("x", "a\x9bb", 400), as_json=False)
    assert isinstance(out.buffer, io.BytesIO)
    assert json.loads(out.buffer.getvalue())["error"]["message"] == "a\x9bb"
    assert "\x9b" in out.buffer.getvalue().decode()
