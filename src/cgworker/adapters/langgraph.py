"""Run a LangGraph graph as a handler, on asyncio: `cgworker[langgraph]`.

The graph's checkpoints are private steps of the turn, so any worker with the same private store goes on with
it. Interrupts become questions, named by the node that asks and by what it asks.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from cgworker.adapters.extras import load, require, require_asyncio
from cgworker.adapters.harness import Harness
from cgworker.handlers.adapter import Adapter, Output
from cgworker.turn import Turn
from cgworker.wire.converter import dumps, loads
from cgworker.wire.values import ExactNumber

if TYPE_CHECKING:
    from langgraph.types import Interrupt, StateSnapshot


def input_of(turn: Turn) -> Any:
    """Return the turn's input, which is the graph's default input.

    Args:
        turn: the turn.
    """
    return turn.input


class NumberTooLarge(ValueError):
    """An input or an answer has a number that LangGraph's checkpoints cannot store."""


def storable(value: Any) -> Any:
    """Convert a JSON value to one that LangGraph's checkpoints can store, with Python's own numbers.

    Args:
        value: the JSON value.

    Raises:
        NumberTooLarge: an integer has more than 64 bits, or a number is beyond a float.
    """
    if isinstance(value, dict):
        return {name: storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [storable(each) for each in value]
    if isinstance(value, ExactNumber) and math.isfinite(value):
        return float(value)
    if isinstance(value, ExactNumber) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
        raise NumberTooLarge(
            f"LangGraph's checkpoints cannot hold the number {value!r:.40}: integers go from -2**63 "
            "to 2**64-1, others to 1.8e308; send it as a text"
        )
    return value


def values_of(values: Any) -> Any:
    """Return the default deliverable: all of the graph's last state.

    Args:
        values: the graph's last state.
    """
    return values


def update_of(update: Any) -> Any:
    """Return what is public of a node's update by default: all of it.

    Args:
        update: the update, `{node: values}`.
    """
    return update


@frozen
class PendingInterrupt:
    """An interrupt of the graph that has no answer yet.

    Attributes:
        nodes: the node that asks, with those of the graphs around it: `child/approve`.
        place: where in the run it stands; LangGraph gives all interrupts of a task one id.
        interrupt: the interrupt.
    """

    nodes: str
    place: str
    interrupt: Interrupt[Any]


@frozen
class GraphRun:
    """One attempt at a turn.

    Attributes:
        graph: the graph, with the turn's checkpoints.
        harness: the turn.
        keys: the keys of the questions that were asked so far, by place and words.
    """

    graph: Any
    harness: Harness
    keys: dict[str, str]


@frozen(kw_only=True)
class LangGraphAdapter(Adapter[GraphRun]):
    """Runs a graph on each turn: `AdapterHandler(LangGraphAdapter(graph=builder.compile()))`.

    Args:
        graph: the compiled graph; a checkpointer of its own is not used.
        begin: returns the graph's input; by default the turn's input.
        output: returns the deliverable from the graph's last state; by default all of it.
        shown: returns what is public of a node's update `{node: values}`, or None; by default all of it.
        recursion_limit: the most steps that the graph may take.
        folder: not used any more; checkpoints are in the worker's private store.
    """

    graph: Any
    begin: Callable[[Turn], Any] = input_of
    output: Callable[[Any], Any] = values_of
    shown: Callable[[Any], Any] = update_of
    recursion_limit: int = 50
    folder: Path | None = field(default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.folder is not None:
            warnings.warn(
                "LangGraphAdapter(folder=) has no effect and will be removed in the next version:"
                " checkpoints are in WorkerOptions(private_store=)",
                DeprecationWarning,
                stacklevel=3,
            )

    def check(self) -> None:
        """Check that the package is there, before the worker starts.

        Raises:
            UsageError: the package is missing.
        """
        require("langgraph.graph", "langgraph")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[GraphRun]:
        """Read the turn's checkpoints.

        Args:
            turn: the turn.

        Yields:
            The graph with these checkpoints.
        """
        require_asyncio("LangGraph")
        await load("cgworker.adapters.langgraph_checkpoints")
        from cgworker.adapters.langgraph_checkpoints import TurnCheckpoints

        harness = Harness(turn, agent="graph")
        checkpoints = TurnCheckpoints(harness, turn.fingerprint)
        await checkpoints.read()
        keys = {each["at"]: each["key"] for each in await harness.kept("asked")}
        yield GraphRun(self.graph.copy(update={"checkpointer": checkpoints}), harness, keys)

    async def drive(self, turn: Turn, prepared: GraphRun) -> AsyncGenerator[Any, None]:
        """Run the graph to its end, through its interrupts.

        Args:
            turn: the turn.
            prepared: the graph.
        """
        async with prepared.harness.running(), aclosing(self._steps(turn, prepared)) as steps:
            async for step in steps:
                yield step

    async def _steps(self, turn: Turn, prepared: GraphRun) -> AsyncGenerator[Any, None]:
        config, graph = self._config(turn), prepared.graph
        state = await graph.aget_state(config)
        step = storable(self.begin(turn)) if state.created_at is None else None
        # Not `next`: it leaves out nodes whose writes are kept, and the checkpoint after them is not.
        while step is not None or state.tasks:
            if state.interrupts:
                step = await _ask(prepared, config)
            # "sync": what a node did is kept before the next one acts.
            updates = graph.astream(step, config, stream_mode="updates", durability="sync")
            async for update in updates:
                if "__interrupt__" not in update and (public := self.shown(update)) is not None:
                    yield _plain(public)
            state, step = await graph.aget_state(config), None
        yield Output(_plain(self.output(state.values)))

    def _config(self, turn: Turn) -> dict[str, Any]:
        return {
            "configurable": {"thread_id": turn.fingerprint},
            "recursion_limit": self.recursion_limit,
        }


async def _ask(run: GraphRun, config: Any) -> Any:
    """Return the answers that the graph waits for, by interrupt; suspend the turn until they are there."""
    from langgraph.types import Command

    # Include the states of subgraphs: only they tell which of their nodes asks.
    pending = await _pending(run.graph, await run.graph.aget_state(config, subgraphs=True))
    count: Counter[str] = Counter()
    answers = {}
    for each in pending:
        question = loads(dumps(_plain(each.interrupt.value)))  # in the form in which its record returns it
        words = hashlib.sha256(dumps(question, sort_keys=True)).hexdigest()[:12]
        at = f"{each.place}:{words}"
        count[at] += 1  # several interrupts have one place if a node runs a graph by itself
        key = await _key_of(run, f"{at}:{count[at]}", f"interrupt:{each.nodes}:{words}")
        schema = each.interrupt.response_schema
        answer = await run.harness.ask(schema if isinstance(schema, dict) else {}, question, key=key)
        answers[each.interrupt.id] = storable(answer)
    return Command(resume=answers)


async def _key_of(run: GraphRun, at: str, name: str) -> str:
    """Return the key of a question: its name, with a number if it was asked at other places before."""
    if at not in run.keys:
        earlier = sum(key.partition("#")[0] == name for key in run.keys.values())
        key = f"{name}#{earlier + 1}" if earlier else name
        run.keys[at] = (await run.harness.keep("asked", partial(dict, at=at, key=key)))["key"]
    return run.keys[at]


async def _pending(
    graph: Any, state: StateSnapshot, where: str = "", nodes: str = ""
) -> list[PendingInterrupt]:
    """Return the interrupts without an answer."""
    from langgraph.types import StateSnapshot

    saved = await graph.checkpointer.aget_tuple(state.config)
    found: list[PendingInterrupt] = []
    for index, task in enumerate(state.tasks):
        place = f"{where}{(state.metadata or {}).get('step', 0)}:{task.name}:{index}"
        path = f"{nodes}{task.name}"
        inside = []
        if isinstance(task.state, StateSnapshot):
            inside = await _pending(graph, task.state, f"{place}/", f"{path}/")
        inner = {each.interrupt.id for each in inside}
        number = _answered_count((saved and saved.pending_writes) or (), task.id)
        own = [each for each in task.interrupts if each.id not in inner]
        found += [*inside, *(PendingInterrupt(path, f"{place}:{number}", each) for each in own)]
    return found


def _answered_count(writes: Iterable[tuple[str, str, Any]], task_id: str) -> int:
    """Return how many interrupts of a task are answered: for each one the task runs again from its start."""
    given = [value for task, channel, value in writes if (task, channel) == (task_id, "__resume__")]
    return max((len(value) if isinstance(value, list) else 1 for value in given), default=0)


def _plain(value: Any) -> Any:
    """Return the JSON of a value of a graph, such as a message."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=str)
