"""How deep a body is nested is found out without a look at each of its values."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgworker.errors import InvalidRequest
from cgworker.kernel.http import parsing
from cgworker.kernel.http.parsing import parse_json

TEXTS = st.text(st.sampled_from('{}[]",:a'), max_size=6)
VALUES = st.recursive(
    TEXTS | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=60
)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(value=VALUES, max_depth=st.integers(1, 6))
def test_exactly_what_is_nested_deeper_is_refused(value: Any, max_depth: int) -> None:
    """Brackets in strings are no lists, and no objects."""
    raw = orjson.dumps(value)
    if _depth(value) <= max_depth:
        assert parse_json(raw, max_depth) == value
    else:
        with pytest.raises(InvalidRequest, match="nested deeper"):
            parse_json(raw, max_depth)


def test_the_values_of_a_flat_body_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    looks: list[Any] = []
    monkeypatch.setattr(parsing, "_values_in", looks.append)
    items = [{"claim": {"turn_id": f"T-{number}"}, "finish": {}} for number in range(400)]
    assert parse_json(orjson.dumps({"items": items}), 200) == {"items": items}
    assert looks == []
