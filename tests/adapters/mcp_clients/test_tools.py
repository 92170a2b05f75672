"""Offers as tools: their names, and inputs that are no objects."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from cgworker.adapters.mcp_tools import tools_of
from cgworker.errors import InvalidRequest
from cgworker.wire.projections import OfferEntry


def offer(agent_id: str, schema: Any = None, kind: str = "turn.a.v1") -> OfferEntry:
    """An offer as the kernel lists it."""
    contract = {} if schema is None else {"json_schema": schema}
    return OfferEntry(
        agent_id=agent_id,
        turn_kind=kind,
        calling={},
        input_contract=contract,
        variants={},
        enabled=True,
        accepts_work=True,
    )


def test_two_agents_whose_names_models_cannot_tell_apart_get_two_tools() -> None:
    """`a.b` and `a b` are both `a_b` to a model, and a name has 64 characters at most."""
    tools = tools_of([offer("a.b"), offer("a b"), offer("x" * 200), offer("plain")])
    assert len(tools) == 4
    assert "plain" in tools
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() for name in tools)
    assert {tool.agent_id for tool in tools.values()} == {"a.b", "a b", "x" * 200, "plain"}


def test_an_input_that_is_no_object_is_the_argument_input_with_its_definitions() -> None:
    """MCP takes objects only; references find their definitions at the root."""
    schema = {"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "integer"}}}
    (tool,) = tools_of([offer("a", schema)]).values()
    tool.check({"input": [1, 2]})
    assert tool.input_of({"input": [1, 2]}) == [1, 2]
    with pytest.raises(InvalidRequest, match=r"arguments\.input\.0"):
        tool.check({"input": ["one"]})
