"""Run a LangGraph graph as a handler, on asyncio: `cgworker[langgraph]`.

The graph's checkpoints are private. Each turn has a file for them in the state folder of this machine,
bound to the turn as an outbox entry is. Without that file the graph starts again, and finds the answers
that were given.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from attrs import frozen

from cgworker.adapters.extras import require, require_asyncio
from cgworker.handlers.adapter import Adapter, Output
from cgworker.handlers.files import make_private_folder
from cgworker.paths import state_folder
from cgworker.turn import Turn
from cgworker.wire.converter import dumps, loads
from cgworker.wire.values import ExactNumber

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.types import Interrupt, StateSnapshot

    Pending = list[tuple[str, Interrupt[Any]]]


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


@frozen(kw_only=True)
class LangGraphAdapter(Adapter[Any]):
    """Runs a graph on each turn: `AdapterHandler(LangGraphAdapter(graph=builder.compile()))`.

    Args:
        graph: the compiled graph; a checkpointer of its own is not used.
        begin: returns the graph's input; by default the turn's input.
        output: returns the deliverable from the graph's last state; by default all of it.
        recursion_limit: the most steps that the graph may take.
        folder: the folder for the checkpoints; None means this user's state folder.
    """

    graph: Any
    begin: Callable[[Turn], Any] = input_of
    output: Callable[[Any], Any] = values_of
    recursion_limit: int = 50
    folder: Path | None = None

    def check(self) -> None:
        """Check that the package is there, before the worker starts.

        Raises:
            UsageError: the package is missing.
        """
        require("langgraph.checkpoint.sqlite", "langgraph")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Any]:
        """Open the turn's checkpoints.

        Args:
            turn: the turn.

        Yields:
            The graph with these checkpoints.
        """
        require_asyncio("LangGraph")
        async with _checkpoints(self._file(turn)) as checkpointer:
            yield self.graph.copy(update={"checkpointer": checkpointer})

    async def drive(self, turn: Turn, prepared: Any) -> AsyncGenerator[Any, None]:
        """Run the graph to its end, through its interrupts.

        Args:
            turn: the turn.
            prepared: the graph.
        """
        config = self._config(turn)
        state = await prepared.aget_state(config)
        step = storable(self.begin(turn)) if state.created_at is None else None
        while step is not None or state.next:
            if state.interrupts:
                step = await _ask(turn, prepared, config)
            async for update in prepared.astream(step, config, stream_mode="updates"):
                if "__interrupt__" not in update:
                    yield _plain(update)
            state, step = await prepared.aget_state(config), None
        yield Output(_plain(self.output(state.values)))

    def forget(self, turn: Turn) -> None:
        """Remove the turn's checkpoints.

        Args:
            turn: the turn.
        """
        for suffix in ("", "-wal", "-shm"):
            self._file(turn).with_name(f"{turn.fingerprint}.sqlite{suffix}").unlink(missing_ok=True)

    def _config(self, turn: Turn) -> dict[str, Any]:
        return {
            "configurable": {"thread_id": turn.fingerprint},
            "recursion_limit": self.recursion_limit,
        }

    def _file(self, turn: Turn) -> Path:
        folder = make_private_folder(self.folder or state_folder("langgraph"))
        return folder / f"{turn.fingerprint}.sqlite"


async def _ask(turn: Turn, graph: Any, config: Any) -> Any:
    """Return the answers that the graph waits for, by interrupt; suspend the turn until they are there."""
    from langgraph.types import Command

    # Include the states of subgraphs: only they tell which of their nodes asks.
    pending = await _pending(graph, await graph.aget_state(config, subgraphs=True))
    asked = [item.payload for item in await turn.records("question")]
    answers = {}
    for key, interrupt in _keys_of(pending, asked):
        schema = interrupt.response_schema if isinstance(interrupt.response_schema, dict) else {}
        answer = await turn.ask(schema, _plain(interrupt.value), key=key)
        answers[interrupt.id] = storable(answer)
    return Command(resume=answers)


async def _pending(graph: Any, state: StateSnapshot, where: str = "interrupt:") -> Pending:
    """Return the interrupts without an answer, each with its place in the graph.

    LangGraph's own ids would change if the checkpoints were lost.
    """
    from langgraph.types import StateSnapshot

    saved = await graph.checkpointer.aget_tuple(state.config)
    found: Pending = []
    for index, task in enumerate(state.tasks):
        place = f"{where}{(state.metadata or {}).get('step', 0)}:{task.name}:{index}"
        inside = (
            await _pending(graph, task.state, f"{place}/") if isinstance(task.state, StateSnapshot) else []
        )
        inner = {interrupt.id for _, interrupt in inside}
        number = _answered_count((saved and saved.pending_writes) or (), task.id)
        own = [(f"{place}:{number}", each) for each in task.interrupts if each.id not in inner]
        found += [*inside, *own]
    return found


def _keys_of(pending: Pending, asked: Sequence[Any]) -> Iterator[tuple[str, Interrupt[Any]]]:
    """Yield a key for each question: its place, and if several share a place, also the question.

    Several interrupts have one place if a node runs a graph by itself. On another machine a model may word
    its question differently, which makes it another question.
    """
    at_place = Counter(place for place, _ in pending)
    words = {said.get("key"): said.get("question") for said in asked if isinstance(said, dict)}
    count: Counter[str] = Counter()
    for place, interrupt in pending:
        question = loads(dumps(_plain(interrupt.value)))  # in the form in which its record returns it
        key = place
        if at_place[place] > 1 or words.get(place, question) != question:
            key = f"{place}:{hashlib.sha256(dumps(question, sort_keys=True)).hexdigest()[:12]}"
        count[key] += 1
        yield key if count[key] == 1 else f"{key}:{count[key]}", interrupt


def _answered_count(writes: Iterable[tuple[str, str, Any]], task_id: str) -> int:
    """Return how many interrupts of a task are answered: for each one the task runs again from its start."""
    given = [value for task, channel, value in writes if (task, channel) == (task_id, "__resume__")]
    return max((len(value) if isinstance(value, list) else 1 for value in given), default=0)


@asynccontextmanager
async def _checkpoints(path: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    await anyio.Path(path).touch(mode=0o600)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as checkpointer:
        yield checkpointer


def _plain(value: Any) -> Any:
    """Return the JSON of a value of a graph, such as a message."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=str)
