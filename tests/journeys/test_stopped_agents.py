"""A stop ends an agent of another framework while its model thinks, with a real kernel, at a renewal."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cgworker import AdapterHandler, Handler, Outcome, Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, working
from tests.kernels import NewProject

OPTIONS = WorkerOptions(concurrency=1, wait_seconds=5, renew_seconds=0.2, interrupt_seconds=10)


@pytest.fixture
def anyio_backend() -> str:
    """These frameworks run on asyncio."""
    return "asyncio"


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel whose leases outlast the test: the turn ends by the stop, or not at all."""
    async with new_project(lease_seconds=600) as kernel:
        yield kernel


@contextmanager
def thinking_pydantic(asked: threading.Event, _: Path) -> Iterator[Any]:
    """An agent of pydantic-ai."""
    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel

    from cgworker.adapters.pydantic_ai import PydanticAgent

    async def think(*_: Any) -> AsyncIterator[str]:
        yield "hm"
        asked.set()
        await anyio.sleep_forever()

    yield PydanticAgent(Agent(FunctionModel(stream_function=think), name="slow"))


@contextmanager
def thinking_openai(asked: threading.Event, _: Path) -> Iterator[Any]:
    """An agent of the OpenAI Agents SDK."""
    from agents import Agent, Model

    from cgworker.adapters.openai_agents import DurableAgent

    class Slow(Model):
        async def get_response(self, *_: Any, **__: Any) -> Any:
            asked.set()
            await anyio.sleep_forever()

        async def stream_response(self, *_: Any, **__: Any) -> Any:
            asked.set()
            await anyio.sleep_forever()
            yield

    yield DurableAgent(Agent[Any](name="slow", model=Slow()))


@contextmanager
def thinking_claude(asked: threading.Event, folder: Path) -> Iterator[Any]:
    """Claude Code, in a process of its own."""
    sdk = pytest.importorskip(
        "claude_agent_sdk", reason="no claude-agent-sdk: pip install 'cgworker[claude]'"
    )
    from cgworker.adapters.claude import ClaudeAgent
    from cgworker.adapters.claude_run import find_cli
    from tests.adapters.claude_endpoint import endpoint, options, text

    if find_cli(sdk.ClaudeAgentOptions()) is None:
        pytest.skip("no Claude Code: this wheel of the package has none")
    is_over = threading.Event()

    def think(_: Any) -> Any:
        asked.set()
        is_over.wait(120)
        return [text("too late")]

    with endpoint(think) as model:
        try:
            yield ClaudeAgent(options(model.url, folder))
        finally:
            is_over.set()


@pytest.mark.parametrize("thinking", [thinking_pydantic, thinking_openai, thinking_claude])
async def test_a_stop_ends_an_agent_whose_model_still_thinks(
    thinking: Callable[..., Any], kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model never answers, and the lease does not end: the first renewal after the stop tells of it."""
    renewals: dict[str, int] = {}

    async def noting(turn: Turn, call_next: Handler) -> Outcome:
        def note(_: object) -> None:
            renewals["told"] = kernel.faults.seen["renew"]

        with turn.on_interrupt(note):
            return await call_next(turn)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    asked = threading.Event()
    with thinking(asked, tmp_path) as agent:
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", {"text": "think"})
            worker = Worker(desk, AdapterHandler(agent), options=OPTIONS)
            worker.middleware(noting)
            async with working(worker):
                with anyio.fail_after(60):
                    await anyio.to_thread.run_sync(asked.wait, abandon_on_cancel=True)
                await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
                renewals["stopped"] = kernel.faults.seen["renew"]
                found = await closed(desk, turn, seconds=60)
    assert found.outcome == "stopped"
    assert renewals["told"] > 0  # they are what is counted
    assert renewals["told"] - renewals["stopped"] <= 1
