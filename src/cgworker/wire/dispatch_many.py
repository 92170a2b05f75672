"""Dispatch many turns in one request (difference 35)."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from attrs import frozen

from cgworker.errors import InvalidRequest
from cgworker.wire.converter import ANSWERS, REQUESTS, structure_request, unstructure
from cgworker.wire.turns import Dispatch


@frozen(kw_only=True)
class InvalidItem:
    """An item of a request without the form of its type; its faults become its answer."""

    faults: tuple[Any, ...]


DispatchItem: TypeAlias = Dispatch | InvalidItem
"""An item of a `DispatchMany` as it is read: an item that is not valid refuses no other."""

MAX_DISPATCHES = 200
"""The maximum number of turns that one request dispatches."""


@frozen(kw_only=True)
class DispatchMany:
    """The body of a request to dispatch many turns, under one identity."""

    max_items: ClassVar[int] = MAX_DISPATCHES

    items: tuple[DispatchItem, ...]


def _read_dispatch(value: Any, _: Any) -> DispatchItem:
    try:
        return structure_request(Dispatch, value)
    except InvalidRequest as invalid:
        return InvalidItem(faults=invalid.faults)


REQUESTS.register_structure_hook(DispatchItem, _read_dispatch)
ANSWERS.register_unstructure_hook(DispatchItem, unstructure)
