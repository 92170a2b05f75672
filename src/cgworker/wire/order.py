"""The fields that decide in which order an agent's turns are claimed (differences 28 and 29)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypedDict

from cgworker.wire.converter import REQUESTS
from cgworker.wire.values import Fault, read_str, read_strict_int

Priority = Annotated[int, "priority"]
"""A turn's priority: -100 to 100; higher comes first."""

OrderKey = Annotated[str, "order_key"]
"""A serial key or a fairness key: 1 to 200 characters."""


class Order(TypedDict, total=False):
    """The fields of a dispatch that say when and in which order its turn is claimed; see `Dispatch`."""

    not_before: datetime
    delay_seconds: float
    priority: int
    serial_key: str
    fairness_key: str


ORDER_FIELDS = tuple(Order.__annotations__)
"""The names of the fields, which the reference's kernel does not know."""


def _read_priority(value: object, _: object) -> int:
    priority = read_strict_int(value, int)
    if not -100 <= priority <= 100:
        raise Fault("value_error", "Input should be between -100 and 100")
    return priority


def _read_order_key(value: object, _: object) -> str:
    key = read_str(value, str)
    if not 1 <= len(key) <= 200:
        raise Fault("value_error", "Input should have 1 to 200 characters")
    return key


REQUESTS.register_structure_hook_func(lambda cls: cls is Priority, _read_priority)
REQUESTS.register_structure_hook_func(lambda cls: cls is OrderKey, _read_order_key)
