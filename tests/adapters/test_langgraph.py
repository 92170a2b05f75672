"""A LangGraph graph as a handler, with the real `langgraph`."""

from __future__ import annotations

import hashlib
import json
import operator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import anyio
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from cgworker import (
    AdapterHandler,
    Failed,
    FolderStore,
    Outcome,
    Stopped,
    Succeeded,
    Turn,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
    open_questions,
    retry,
)
from cgworker.adapters.harness import Harness
from cgworker.adapters.langgraph import LangGraphAdapter
from cgworker.testing import Played, local_kernel, play
from cgworker.wire.converter import dumps, loads
from tests.adapters.spans import spans_of

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


def handler_of(*nodes: Any, **how: Any) -> AdapterHandler[Any]:
    return AdapterHandler(LangGraphAdapter(graph=graph_of(*nodes), **how))


def options_of(folder: Path) -> WorkerOptions:
    """With a private store in this folder."""
    return WorkerOptions(private_store=FolderStore(folder / "private"))


def words_of(question: Any) -> str:
    """The end of the key of a question: it is made of its words."""
    return hashlib.sha256(dumps(question, sort_keys=True)).hexdigest()[:12]


def progress_of(played: Played) -> list[Any]:
    """The payloads of the records of role "progress"."""
    return [record.payload for record in played.records if record.role == "progress"]


async def shout(state: State) -> State:
    return {"text": state["text"].upper()}


async def exclaim(state: State) -> State:
    return {"text": state["text"] + "!"}


@ASYNCIO
async def test_a_graph_runs_to_its_end_and_its_updates_are_records() -> None:
    """One record a node; the last state is delivered, or what `output` makes of it."""
    played = await play(handler_of(shout, exclaim, output=lambda s: s["text"]), {"text": "hi"})
    assert played.outcome == Succeeded("HI!")
    assert progress_of(played) == [{"shout": {"text": "HI"}}, {"exclaim": {"text": "HI!"}}]


@ASYNCIO
async def test_updates_are_public_as_far_as_is_said() -> None:
    """Of one node its name, of the other nothing."""
    handler = handler_of(shout, exclaim, shown=lambda update: "shout" if "shout" in update else None)
    played = await play(handler, {"text": "a secret"})
    assert progress_of(played) == ["shout"]
    assert "secret" not in str([record.payload for record in played.records]).lower()


@ASYNCIO
async def test_interrupts_are_questions_and_the_graph_goes_on_where_it_was(tmp_path: Path) -> None:
    """Each attempt is another worker's; no node that ended is run twice, and nothing private is left."""
    ran: list[str] = []

    async def first(state: State) -> State:
        ran.append("first")
        return {"text": state["text"] + "1"}

    async def ask(state: State) -> State:
        return {"text": f"{state['text']} {interrupt({'name': 'one'})} {interrupt({'name': 'two'})}"}

    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"text": "hi"})
        for answer in ("a", "b"):
            await Worker(desk, handler_of(first, ask), options=options_of(tmp_path)).once()
            await answer_question(desk, turn, answer)
        await Worker(desk, handler_of(first, ask), options=options_of(tmp_path)).once()
        closed = await kernel.closed(turn)
    assert (closed.outcome, closed.final_payload) == ("succeeded", {"text": "hi1 a b"})
    assert ran == ["first"]
    assert not [path for path in (tmp_path / "private").rglob("*") if path.is_file()]


@ASYNCIO
@pytest.mark.parametrize("kept_count", range(1, 7))
async def test_a_graph_goes_on_whatever_its_worker_has_kept_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_count: int
) -> None:
    """Also with a node's writes kept, and not the checkpoint after it: LangGraph then names no next node."""
    keep, count = Harness.keep, 0

    async def keep_some(harness: Harness, *given: Any) -> Any:
        nonlocal count
        count += 1
        if count == kept_count + 1:
            raise ConnectionError("the worker dies")
        return await keep(harness, *given)

    async def again_if_it_dies(turn: Turn) -> Outcome:
        try:
            return await handler_of(shout, exclaim)(turn)
        except ConnectionError:
            return retry()

    monkeypatch.setattr(Harness, "keep", keep_some)
    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"text": "hi"})
        async with anyio.create_task_group() as group:
            group.start_soon(Worker(desk, again_if_it_dies, options=options_of(tmp_path)).run)
            closed = await kernel.closed(turn)
            group.cancel_scope.cancel()
    assert (closed.outcome, closed.final_payload) == ("succeeded", {"text": "HI!"})


@ASYNCIO
async def test_a_question_is_named_by_what_it_asks() -> None:
    """Asked anew in a later round it is another one; other nodes before it change nothing."""

    async def ask(state: State) -> State:
        return {"text": state["text"] + interrupt("Go on?")}

    def graph_with(*before: Any) -> Any:
        builder = StateGraph(State)
        builder.add_node("ask", ask)
        names = [START, *(node.__name__ for node in before), "ask"]
        for name, node in zip(names[1:], before, strict=False):
            builder.add_node(name, node)
        for one, next_one in pairwise(names):
            builder.add_edge(one, next_one)
        builder.add_conditional_edges("ask", lambda state: END if state["text"].endswith("no") else "ask")
        return builder.compile()

    name = f"interrupt:ask:{words_of('Go on?')}"
    answers = {name: "yes ", f"{name}#2": "yes ", f"{name}#3": "no"}
    for before in ((), (shout, exclaim)):
        handler = AdapterHandler(LangGraphAdapter(graph=graph_with(*before)))
        played = await play(handler, {"text": ""}, answers=answers)
        assert played.payload["text"].endswith("yes yes no")


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
@pytest.mark.parametrize(("hidden", "words"), [(False, "May I {}?"), (False, "Sure?"), (True, "May I {}?")])
async def test_each_question_gets_its_own_answer(tmp_path: Path, hidden: bool, words: str) -> None:
    """Whichever asks first, and whether or not LangGraph tells in which node of a subgraph it stands."""
    graph = two_at_once([], words).compile()
    adapter = LangGraphAdapter(
        graph=around(run_by_a_node(graph) if hidden else graph), output=lambda state: sorted(state["said"])
    )
    async with local_kernel() as kernel:
        desk = await kernel.agent("desk")
        turn = await kernel.dispatch("desk", {"said": []})
        for _ in range(2):
            await Worker(desk, AdapterHandler(adapter), options=options_of(tmp_path)).once()
            [question] = await open_questions(desk, kernel.project_id)
            is_delete = "delete" in f"{question.key} {question.question}"
            await answer_question(desk, turn, "NO" if is_delete else "yes", key=question.key)
        await Worker(desk, AdapterHandler(adapter), options=options_of(tmp_path)).once()
        closed = await kernel.closed(turn)
    assert (closed.outcome, closed.final_payload) == ("succeeded", ["delete=NO", "read=yes"])


@ASYNCIO
async def test_the_nodes_of_a_subgraph_are_part_of_the_name() -> None:
    """So equal questions of two nodes are told apart."""
    graph = around(two_at_once([], "Sure?").compile())
    handler = AdapterHandler(LangGraphAdapter(graph=graph, output=lambda s: sorted(s["said"])))
    words = words_of("Sure?")
    answers = {f"interrupt:child/delete:{words}": "NO", f"interrupt:child/read:{words}": "yes"}
    assert (await play(handler, {"said": []}, answers=answers)).payload == ["delete=NO", "read=yes"]


@ASYNCIO
@pytest.mark.parametrize(
    "text", ["1e3", "1.5E3", "0.1000000000000000", "1732809600.1234560", "-0.0", "18446744073709551615"]
)
async def test_numbers_reach_the_graph_as_pythons_own(text: str) -> None:
    """However they were spelled, in the input and in an answer."""
    seen: list[Any] = []

    async def look(state: Any) -> Any:
        seen.append(state["text"])
        seen.append(interrupt("?"))
        return {"text": ""}

    given = loads(f'[{{"n": {text}}}]')
    await play(handler_of(look), {"text": given}, answers={f"interrupt:look:{words_of('?')}": given})
    expected = json.loads(text)
    assert len(seen) == 3  # the node that asked runs again
    for number in (each[0]["n"] for each in seen):
        assert (type(number), number) == (type(expected), expected)


@ASYNCIO
@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809", "1e400", "1" * 700])
async def test_a_number_that_no_checkpoint_can_hold_is_named(text: str) -> None:
    """In the input and in an answer."""

    async def ask(_: State) -> State:
        return {"text": interrupt("?")}

    too_large = loads(f'{{"text": {text}}}')
    for begin, answer in ((too_large, 1), ({"text": "hi"}, too_large)):
        outcome = (
            await play(handler_of(ask), begin, answers={f"interrupt:ask:{words_of('?')}": answer})
        ).outcome
        assert isinstance(outcome, Failed)
        assert (outcome.payload["type"], text[:20] in outcome.payload["message"]) == ("NumberTooLarge", True)


@ASYNCIO
async def test_checkpoints_are_private() -> None:
    """Records have digests of them alone."""

    async def wait(_: State) -> State:
        return {"text": interrupt("how much?")}

    played = await play(handler_of(wait), {"text": "hi"})  # nobody answers: it is suspended
    steps = [record.payload for record in played.records if record.role == "step"]
    assert {step["key"].partition("#")[0] for step in steps} == {"checkpoint", "asked"}
    assert all(set(step) == {"key", "private"} for step in steps)


def test_the_old_folder_is_said_to_have_no_effect(tmp_path: Path) -> None:
    """It was where the checkpoints were."""
    with pytest.warns(DeprecationWarning, match="private_store"):
        LangGraphAdapter(graph=graph_of(shout), folder=tmp_path)


@ASYNCIO
async def test_a_stop_and_an_error_reach_the_graph() -> None:
    """A node that waits is cancelled; what a node raises is a typed failure."""

    async def wait(state: State) -> State:
        await anyio.sleep_forever()
        return state

    async def fall(_: State) -> State:
        raise LookupError("no such city")

    assert isinstance((await play(handler_of(wait), {}, stop_after=0.2)).outcome, Stopped)
    outcome = (await play(handler_of(fall), {"text": ""})).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.payload["type"], outcome.payload["message"]) == ("LookupError", "no such city")


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_says_that_it_cannot() -> None:
    """LangGraph knows asyncio only."""
    played = await play(handler_of(shout), {"text": "hi"})
    assert isinstance(played.error, UsageError)
    assert "asyncio only" in str(played.error)


@ASYNCIO
async def test_the_graph_is_a_span_without_a_usage_that_nobody_knows() -> None:
    """LangGraph does not tell what its nodes ask of models."""
    spans = await spans_of(handler_of(shout), input={"text": "a"})
    attributes = spans["invoke_agent graph"].attributes or {}
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert not [name for name in attributes if "usage" in name]
