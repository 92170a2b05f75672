"""Offers as tools: their names, and inputs that are no objects."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from cgworker import KernelClient
from cgworker.adapters.mcp_tools import MAX_TOOLS, offered_tools, tools_of
from cgworker.errors import InvalidRequest
from cgworker.wire.converter import unstructure
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


@pytest.mark.anyio
async def test_offers_beyond_the_largest_page_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel lists 500, and has no next page."""
    items = [unstructure(offer(f"agent-{number}")) for number in range(MAX_TOOLS)]
    page = {"project_id": "large", "items": items, "limit": MAX_TOOLS, "diagnostics": []}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=page))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://kernel") as http,
        KernelClient("http://kernel", http=http) as kernel,
    ):
        with caplog.at_level(logging.WARNING, "cgworker"):
            for _ in range(2):
                assert len(await offered_tools(kernel, "large")) == MAX_TOOLS
    assert [record.getMessage() for record in caplog.records] == [
        "large has 500 offers or more; MCP clients see the first 500, by turn kind and agent"
    ]
