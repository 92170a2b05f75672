"""A LangGraph graph as a handler, on asyncio: `cgworker[langgraph]`.

Its checkpoints are private: a file for each turn in the state folder of this machine, bound to the turn as an
outbox entry is. Where it is gone the graph begins again, and finds the answers that were given.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from attrs import frozen

from cgworker.adapters.extras import insist_on_asyncio, require
from cgworker.handlers.adapter import Adapter, Output
from cgworker.handlers.files import make_private_folder, state_folder
from cgworker.turn import Turn

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.types import StateSnapshot


def input_of(turn: Turn) -> Any:
    """What the graph begins with: the turn's input."""
    return turn.input


def values_of(values: Any) -> Any:
    """What the turn delivers: the graph's last state."""
    return values


@frozen(kw_only=True)
class LangGraphAdapter(Adapter[Any]):
    """Runs a graph on each turn: `AdapterHandler(LangGraphAdapter(graph=builder.compile()))`.

    Args:
        graph: the compiled graph; its checkpointer, if any, is not used.
        begin: what it begins with; by default the turn's input.
        output: what of its last state is delivered; by default all of it.
        recursion_limit: after how many steps LangGraph gives up.
        folder: where the checkpoints are; None is this user's state folder.
    """

    graph: Any
    begin: Callable[[Turn], Any] = input_of
    output: Callable[[Any], Any] = values_of
    recursion_limit: int = 50
    folder: Path | None = None

    def check(self) -> None:
        """Refuse to start without the package.

        Raises:
            UsageError: it is missing.
        """
        require("langgraph.checkpoint.sqlite", "langgraph")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[Any]:
        """The graph with the turn's checkpoints."""
        insist_on_asyncio("LangGraph")
        async with _checkpoints(self._file(turn)) as checkpointer:
            yield self.graph.copy(update={"checkpointer": checkpointer})

    async def drive(self, turn: Turn, prepared: Any) -> AsyncGenerator[Any, None]:
        """Run the graph to its end, through its interrupts."""
        config = self._config(turn)
        state = await prepared.aget_state(config)
        step = self.begin(turn) if state.created_at is None else None
        while step is not None or state.next:
            if state.interrupts:
                step = await _ask(turn, prepared, state)
            async for update in prepared.astream(step, config, stream_mode="updates"):
                if "__interrupt__" not in update:
                    yield _plain(update)
            state, step = await prepared.aget_state(config), None
        yield Output(_plain(self.output(state.values)))

    def forget(self, turn: Turn) -> None:
        """Remove the turn's checkpoints."""
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


async def _ask(turn: Turn, graph: Any, state: StateSnapshot) -> Any:
    """What the graph waits for, by its interrupts; suspends the turn until it is there.

    The keys say where in the graph a question stands: LangGraph's own ids change if the checkpoints are lost.
    """
    from langgraph.types import Command

    saved = await graph.checkpointer.aget_tuple(state.config)
    answers = {}
    for index, task in enumerate(state.tasks):
        before = _answered_count(saved.pending_writes or (), task.id)
        for number, interrupt in enumerate(task.interrupts, start=before):
            key = f"interrupt:{(state.metadata or {}).get('step', 0)}:{task.name}:{index}:{number}"
            schema = interrupt.response_schema if isinstance(interrupt.response_schema, dict) else {}
            answers[interrupt.id] = await turn.ask(schema, _plain(interrupt.value), key=key)
    return Command(resume=answers)


def _answered_count(writes: Iterable[tuple[str, str, Any]], task_id: str) -> int:
    """How many of a task's interrupts have been answered: it is run again from its start for each."""
    given = [value for task, channel, value in writes if (task, channel) == (task_id, "__resume__")]
    return max((len(value) if isinstance(value, list) else 1 for value in given), default=0)


@asynccontextmanager
async def _checkpoints(path: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    await anyio.Path(path).touch(mode=0o600)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as checkpointer:
        yield checkpointer


def _plain(value: Any) -> Any:
    """JSON of what a graph deals in, such as messages."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=str)
