"""Draw a result for a person: one picture per type of result, and a plain one for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import singledispatch
from typing import Any

import attrs
from rich.console import RenderableType

from cgworker.cli.rendering import fields, json_of, yes_or_no
from cgworker.wire.converter import unstructure
from cgworker.wire.refs import AgentRef, TurnRef


@singledispatch
def picture(result: Any) -> RenderableType:
    """Draw a result: its fields, if its class has no view of its own."""
    content = unstructure(result) if attrs.has(type(result)) else result
    if not isinstance(content, Mapping):
        return json_of(content)
    return fields((name, _for_people(getattr(result, name, value), value)) for name, value in content.items())


def _for_people(value: Any, as_json: Any) -> Any:
    """Return a field as it is drawn: agents and turns by the ids that a person types, facts as yes or no."""
    match value:
        case AgentRef():
            return value.agent_id
        case TurnRef():
            return value.turn_id
        case bool():
            return yes_or_no(value)
        case None:
            return ""
        case datetime():
            return value
    return as_json
