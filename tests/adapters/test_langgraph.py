"""A LangGraph graph as a handler, with the real `langgraph`."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from cgworker import (
    AdapterHandler,
    Failed,
    Stopped,
    Succeeded,
    UsageError,
    Worker,
    answer_question,
    open_questions,
)
from cgworker.adapters.langgraph import LangGraphAdapter
from cgworker.testing import local_kernel, play
from cgworker.wire.converter import loads

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


class Said(TypedDict, total=False):
    said: Annotated[list[str], operator.add]


def two_at_once(runs: list[str], words: Any = "May I {}?") -> StateGraph[Any]:
    """Nodes `delete` and `read` side by side, of which another one asks first each time."""

    def node(name: str) -> Any:
        async def run(_: Said) -> Said:
            runs.append(name)
            if (runs.count(name) % 2 == 0) == (name == "read"):
                await anyio.sleep(0.05)
            return {"said": [f"{name}={interrupt(words.format(name))}"]}

        return run

    builder = StateGraph(Said)
    for name in ("delete", "read"):
        builder.add_node(name, node(name))
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder


def around(inner: Any) -> Any:
    """A graph whose only node is, or runs, another graph."""
    builder = StateGraph(Said)
    builder.add_node("child", inner)
    builder.add_edge(START, "child")
    builder.add_edge("child", END)
    return builder.compile()


def run_by_a_node(graph: Any) -> Any:
    async def child(state: Said) -> Said:
        return {"said": (await graph.ainvoke({"said": state["said"]}))["said"]}

    return child


@ASYNCIO
@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(("hidden", "words"), [(False, "May I {}?"), (False, "Sure?"), (True, "May I {}?")])
async def test_each_question_gets_its_own_answer(
    tmp_path: Path, is_lost: bool, hidden: bool, words: str
) -> None:
    """Whichever asks first, and whether or not LangGraph tells in which node of a subgraph it stands."""
    graph = two_at_once([], words).compile()
    adapter = LangGraphAdapter(
        graph=around(run_by_a_node(graph) if hidden else graph),
        output=lambda state: sorted(state["said"]),
        folder=tmp_path / "checkpoints",
    )
    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"said": []})
        worker = Worker(desk, AdapterHandler(adapter))
        for _ in range(2):
            await worker.once()
            if is_lost:
                for file in (tmp_path / "checkpoints").iterdir():
                    file.unlink()
            [question] = await open_questions(desk, kernel.project_id)
            is_delete = "delete" in f"{question.key} {question.question}"
            await answer_question(desk, turn, "NO" if is_delete else "yes", key=question.key)
        await worker.once()
        closed = await kernel.closed(turn)
    assert (closed.outcome, closed.final_payload) == ("succeeded", ["delete=NO", "read=yes"])


@ASYNCIO
async def test_a_script_answers_questions_by_their_places(tmp_path: Path) -> None:
    """In a subgraph its nodes are part of the key."""
    handler = AdapterHandler(
        LangGraphAdapter(
            graph=around(two_at_once([]).compile()), output=lambda s: sorted(s["said"]), folder=tmp_path / "c"
        )
    )
    answers = {"interrupt:0:child:0/0:delete:0:0": "NO", "interrupt:0:child:0/0:read:1:0": "yes"}
    assert (await play(handler, {"said": []}, answers=answers)).payload == ["delete=NO", "read=yes"]


@ASYNCIO
async def test_other_words_at_the_same_place_are_another_question(tmp_path: Path) -> None:
    """As where a model asks, and its graph begins again on another machine: the old answer is not its."""
    words = iter(["May I?", "Shall I?", "Shall I?"])

    async def ask(_: State) -> State:
        return {"text": interrupt(next(words))}

    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"text": "hi"})
        worker = Worker(desk, handler_of(tmp_path, ask))
        for answer in ("to the first", "to the second"):
            await worker.once()
            for file in (tmp_path / "checkpoints").iterdir():
                file.unlink()
            question = (await open_questions(desk, kernel.project_id))[-1]
            await answer_question(desk, turn, answer, key=question.key)
        words = iter(["Shall I?"] * 2)
        await worker.once()
        closed = await kernel.closed(turn)
    assert (closed.outcome, closed.final_payload) == ("succeeded", {"text": "to the second"})


@ASYNCIO
@pytest.mark.parametrize(
    "text", ["1e3", "1.5E3", "0.1000000000000000", "1732809600.1234560", "-0.0", "18446744073709551615"]
)
async def test_numbers_reach_the_graph_as_pythons_own(tmp_path: Path, text: str) -> None:
    """However they were spelled, in the input and in an answer."""
    seen: list[Any] = []

    async def look(state: Any) -> Any:
        seen.append(state["text"])
        seen.append(interrupt("?"))
        return {"text": ""}

    given = loads(f'[{{"n": {text}}}]')
    await play(handler_of(tmp_path, look), {"text": given}, answers={"interrupt:0:look:0:0": given})
    expected = json.loads(text)
    assert len(seen) == 3  # the node that asked runs again
    for number in (each[0]["n"] for each in seen):
        assert (type(number), number) == (type(expected), expected)


@ASYNCIO
@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809", "1e400", "1" * 700])
async def test_a_number_that_no_checkpoint_can_hold_is_named(tmp_path: Path, text: str) -> None:
    """In the input and in an answer."""

    async def ask(_: State) -> State:
        return {"text": interrupt("?")}

    too_large = loads(f'{{"text": {text}}}')
    for begin, answer in ((too_large, 1), ({"text": "hi"}, too_large)):
        outcome = (
            await play(handler_of(tmp_path, ask), begin, answers={"interrupt:0:ask:0:0": answer})
        ).outcome
        assert isinstance(outcome, Failed)
        assert (outcome.payload["type"], text[:20] in outcome.payload["message"]) == ("NumberTooLarge", True)


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
