"""Values of every wire type, drawn by its annotations, and any JSON."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from datetime import UTC
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

import cgworker.wire
from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.dispatch_many import DispatchItem
from cgworker.wire.order import OrderKey, Priority
from cgworker.wire.turns import Anchor, ChildDerivation, Delay, Dispatch, RootRequest
from cgworker.wire.values import MAX_DELAY_SECONDS

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
anchors = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", fullmatch=True)
integers = st.integers(-(2**63), 2**63 - 1)
instants = st.datetimes(timezones=st.just(UTC))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)

PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: text,
    bool: st.booleans(),
    int: integers,
    float: st.floats(allow_nan=False, allow_infinity=False),
    Any: json_values,
    types.NoneType: st.none(),
    Absent: st.just(ABSENT),
    Anchor: anchors,
    Delay: st.floats(0, MAX_DELAY_SECONDS),
    Priority: st.integers(-100, 100),
    OrderKey: st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200),
    RootRequest: anchors.map(lambda key: RootRequest(request_id=key)),
}


def wire_types() -> Iterator[type[attrs.AttrsInstance]]:
    """Every public class of `cgworker.wire` that travels by itself or inside another."""
    for module in iter_modules(cgworker.wire.__path__):
        for name, found in vars(import_module(f"cgworker.wire.{module.name}")).items():
            if (
                inspect.isclass(found)
                and attrs.has(found)
                and not name.startswith("_")
                and found not in TAGGED
            ):
                yield found


# They travel as one tagged object, which `Dispatch` draws.
TAGGED = frozenset({RootRequest, ChildDerivation})


@cache
def instances(cls: type[attrs.AttrsInstance]) -> st.SearchStrategy[Any]:
    """Any instance of a wire type; a field that may be absent is absent in some."""
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(
        cls, **{field.name: _values(hints[field.name], field.default) for field in attrs.fields(cls)}
    )


def _values(hint: Any, default: Any) -> st.SearchStrategy[Any]:
    drawn = _of(hint)
    return drawn | st.just(ABSENT) if default is ABSENT else drawn


def _of(hint: Any) -> st.SearchStrategy[Any]:
    if hint == DispatchItem:
        return instances(Dispatch)
    if hint in PLAIN:
        return PLAIN[hint]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([_of(kind) for kind in get_args(hint)])
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    if origin is tuple:
        return st.lists(_of(get_args(hint)[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(text, json_values, max_size=3)
    if attrs.has(hint):
        return instances(hint)
    return instants
