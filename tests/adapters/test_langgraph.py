"""A LangGraph graph as a handler, with the real `langgraph`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import anyio
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from cgworker import AdapterHandler, Failed, Stopped, Succeeded, UsageError, Worker, answer_question
from cgworker.adapters.langgraph import LangGraphAdapter
from cgworker.testing import local_kernel, play

ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class State(TypedDict, total=False):
    text: str


def graph_of(*nodes: Any) -> Any:
    builder = StateGraph(State)
    names = [node.__name__ for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    return builder.compile()


def handler_of(folder: Path, *nodes: Any, **how: Any) -> AdapterHandler[Any]:
    return AdapterHandler(LangGraphAdapter(graph=graph_of(*nodes), folder=folder / "checkpoints", **how))


async def shout(state: State) -> State:
    return {"text": state["text"].upper()}


async def exclaim(state: State) -> State:
    return {"text": state["text"] + "!"}


@ASYNCIO
async def test_a_graph_runs_to_its_end_and_its_updates_are_records(tmp_path: Path) -> None:
    """One record a node; the last state is delivered, or what `output` makes of it."""
    played = await play(handler_of(tmp_path, shout, exclaim, output=lambda s: s["text"]), {"text": "hi"})
    assert played.outcome == Succeeded("HI!")
    assert [record.payload for record in played.records] == [
        {"shout": {"text": "HI"}},
        {"exclaim": {"text": "HI!"}},
    ]
    assert list((tmp_path / "checkpoints").iterdir()) == []  # the turn is closed: nobody needs them


@ASYNCIO
@pytest.mark.parametrize("is_lost", [False, True])
async def test_interrupts_are_questions_and_the_graph_goes_on_where_it_was(
    tmp_path: Path, is_lost: bool
) -> None:
    """With its checkpoints no node is run twice; without them it begins again and finds the answers."""
    ran: list[str] = []

    async def first(state: State) -> State:
        ran.append("first")
        return {"text": state["text"] + "1"}

    async def ask(state: State) -> State:
        return {"text": f"{state['text']} {interrupt({'name': 'one'})} {interrupt({'name': 'two'})}"}

    handler = handler_of(tmp_path, first, ask)
    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"text": "hi"})
        worker = Worker(desk, handler)
        for answer in ("a", "b"):
            await worker.once()
            if is_lost:
                for file in (tmp_path / "checkpoints").iterdir():
                    file.unlink()
            await answer_question(desk, turn, answer)
        await worker.once()
        closed = await kernel.closed(turn)
    assert (closed.outcome, closed.final_payload) == ("succeeded", {"text": "hi1 a b"})
    assert ran.count("first") == (3 if is_lost else 1)


@ASYNCIO
async def test_checkpoints_are_private(tmp_path: Path) -> None:
    """Nobody else on the machine reads them, and no record holds them."""

    async def wait(_: State) -> State:
        return {"text": interrupt("how much?")}

    await play(handler_of(tmp_path, wait), {"text": "hi"})  # nobody answers: it is suspended
    [file] = (tmp_path / "checkpoints").glob("*.sqlite")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@ASYNCIO
async def test_a_stop_and_an_error_reach_the_graph(tmp_path: Path) -> None:
    """A node that waits is cancelled; what a node raises is a typed failure."""

    async def wait(state: State) -> State:
        await anyio.sleep_forever()
        return state

    async def fall(_: State) -> State:
        raise LookupError("no such city")

    assert isinstance((await play(handler_of(tmp_path, wait), {}, stop_after=0.2)).outcome, Stopped)
    outcome = (await play(handler_of(tmp_path / "b", fall), {"text": ""})).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.payload["type"], outcome.payload["message"]) == ("LookupError", "no such city")


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_says_that_it_cannot(tmp_path: Path) -> None:
    """LangGraph knows asyncio only."""
    played = await play(handler_of(tmp_path, shout), {"text": "hi"})
    assert isinstance(played.error, UsageError)
    assert "asyncio only" in str(played.error)
