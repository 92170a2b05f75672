"""Draw a result for a person: one picture per type of result, and a plain one for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import attrs
from rich.console import RenderableType

from cgworker.cli.rendering import fields, json_of
from cgworker.wire.converter import unstructure


@singledispatch
def picture(result: Any) -> RenderableType:
    """Draw a result: its fields, if its class has no view of its own."""
    content = unstructure(result) if attrs.has(type(result)) else result
    if isinstance(content, Mapping):
        return fields(content.items())
    return json_of(content)
