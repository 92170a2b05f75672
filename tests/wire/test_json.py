"""JSON is read and written exactly, and nothing but JSON is read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgworker.wire.converter import check_json, dumps, loads
from cgworker.wire.values import ExactNumber
from tests.wire.strategies import json_values

LONG = b"1234567890123456"  # makes the exact parser read what stands beside it


@given(json_values)
def test_any_json_survives(value: Any) -> None:
    """What a handler returns is what a requester reads."""
    assert loads(dumps(value)) == value


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_keeps_its_value_to_the_last_digit(text: str) -> None:
    """Whatever its size: nothing is rounded to a float on the way through."""
    assert Decimal(dumps(loads(text)).decode()) == Decimal(text)


@pytest.mark.parametrize("text", ["1234567890123456789", "18446744073709551616", "-" + "9" * 600])
def test_integers_are_integers_of_any_size(text: str) -> None:
    """An id of nineteen digits is still equal to itself, and can be counted with."""
    number = loads(f"[{text}]")[0]
    assert type(number) is int
    assert number == int(text)
    assert dumps([number]) == f"[{text}]".encode()


@pytest.mark.parametrize(
    "text", ["9" * 5000, "1e400", "-1E400", "0.1234567890123456789", "1.50000000000000000"]
)
def test_a_number_python_cannot_hold_is_written_back_as_it_came(text: str) -> None:
    """It behaves as the nearest float in between."""
    number = loads(text)
    assert isinstance(number, ExactNumber)
    assert repr(number) == text
    assert dumps({"n": number}) == f'{{"n":{text}}}'.encode()
    assert float(number) == float(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nope",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'"\\ud800"',
        b'"\\ude00\\ud83d"',
        b'"\xff"',
        b"\xed\xa0\x80",
        b'"a',
    ],
)
@pytest.mark.parametrize("beside", [b"", LONG], ids=["quickly", "exactly"])
def test_what_is_not_json_is_a_json_error(text: bytes, beside: bytes) -> None:
    """NaN, lone surrogates and broken UTF-8 too, by whichever parser it is read."""
    document = b"[" + text + b"," + beside + b"]" if beside else text
    with pytest.raises(json.JSONDecodeError):
        loads(document)


@pytest.mark.parametrize("text", ['"\ud800"', f'["\ud800", {LONG.decode()}]'])
def test_a_string_with_a_lone_surrogate_is_a_json_error(text: str) -> None:
    """It cannot be encoded, so it cannot have been sent."""
    with pytest.raises(json.JSONDecodeError):
        loads(text)


def test_surrogate_pairs_are_characters() -> None:
    """An escaped emoji is an emoji, beside a long number too."""
    assert loads('["\\ud83d\\ude00", 1234567890123456789]')[0] == "😀"


def test_deep_json_is_refused_and_not_a_crash() -> None:
    """A hundred thousand brackets end in an error that the edges know."""
    deep = b"[" * 100_000 + b"]" * 100_000
    for document in (deep, b"[" + LONG + b"," + deep + b"]"):
        with pytest.raises((json.JSONDecodeError, RecursionError)):
            loads(document)


def test_keys_can_be_sorted_for_digests() -> None:
    """Equal content gives equal bytes, with numbers of any size."""
    assert dumps({"b": 2**70, "a": 1}, sort_keys=True) == b'{"a":1,"b":1180591620717411303424}'


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_nan_and_infinity_of_a_user_are_refused(number: float) -> None:
    """They are not JSON, and a null in their place would be a lie (difference 1)."""
    with pytest.raises(ValueError, match="not JSON"):
        check_json({"n": [1, (number,)]})


def test_what_came_as_json_may_be_sent_on() -> None:
    """A number beyond a float's range is no infinity."""
    check_json(loads('{"n": [1e400, 0.5, null]}'))
