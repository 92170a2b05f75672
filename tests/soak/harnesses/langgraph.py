"""An agent of LangGraph."""

from __future__ import annotations

import operator
from functools import partial
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph

from cgworker.adapters.langgraph import LangGraphAdapter
from tests.soak.harnesses import CALLS, Run


class _State(TypedDict, total=False):
    squares: Annotated[list[int], operator.add]


def adapter_for(run: Run) -> LangGraphAdapter:
    """A graph with a node for each call."""

    async def node(of: str, _: _State) -> _State:
        await run.calls.make(of)
        return {"squares": [run.square] if of == "square" else []}

    builder = StateGraph(_State)
    for each in CALLS:
        builder.add_node(each, partial(node, each))
    for before, after in zip([START, *CALLS], [*CALLS, END], strict=True):
        builder.add_edge(before, after)
    return LangGraphAdapter(
        graph=builder.compile(),
        begin=lambda _: {"squares": []},
        output=lambda state: {"text": str(state["squares"][0])},
        shown=lambda _: None,
    )
