"""A graph of LangGraph whose nodes note what they are asked, one after the other."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from cgworker.adapters.langgraph import LangGraphAdapter
from tests.adapters.killed import Script


class Said(TypedDict, total=False):
    said: Annotated[list[str], operator.add]


def text_of(state: Said) -> dict[str, str]:
    """The deliverable."""
    return {"text": "done: " + "".join(f"{each}; " for each in state["said"])}


def scripted(script: Script) -> LangGraphAdapter:
    """The graph; what its nodes say is not public."""

    def node(call: str, *said: str) -> Any:
        async def run(_: Said) -> Said:
            script.came(call)
            script.point(call, "answered")
            return {"said": list(said)}

        return run

    builder = StateGraph(Said)
    calls = {"model1": (), "look a": ("a is 7",), "look b": ("b is 7",), "model2": ()}
    for call, said in calls.items():
        builder.add_node(call, node(call, *said))
    for before, after in zip([START, *calls], [*calls, END], strict=True):
        builder.add_edge(before, after)
    return LangGraphAdapter(
        graph=builder.compile(), begin=lambda _: {"said": []}, output=text_of, shown=lambda _: None
    )
