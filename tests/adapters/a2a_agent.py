"""A scripted A2A agent on loopback: the SDK's own server, over connections that can be cut."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from a2a.helpers import get_message_text, new_data_part, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Message,
    Task,
    TaskState,
    TaskStatus,
)
from attrs import define, field, frozen
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.adapters.a2a_parts import message_json


@frozen
class Says:
    """A status update with a text."""

    text: str


@frozen
class Streams:
    """An artifact in pieces."""

    pieces: tuple[str, ...]


@frozen
class Delivers:
    """An artifact of data."""

    data: Any


@frozen
class Stands:
    """The task comes to stand in a state."""

    state: TaskState
    text: str = ""


@frozen
class Answers:
    """A message, and no task at all."""

    text: str


@frozen
class Takes:
    """The agent works for so long."""

    seconds: float


class Waits:
    """The agent works on until the task is cancelled or the test lets it go."""


COMPLETED = Stands(TaskState.TASK_STATE_COMPLETED)


@define
class Agent:
    """What it is told, and what it does: for each message the script's next list, or what it returns."""

    script: list[list[Any]] | Callable[[str], list[Any]]
    url: str = ""
    told: list[tuple[str, str]] = field(factory=list)
    calls: list[str] = field(factory=list)
    tokens: set[str | None] = field(factory=set)
    cuts: list[tuple[str, int]] = field(factory=list)
    refusals: list[int] = field(factory=list)
    cancelled: threading.Event = field(factory=threading.Event)
    waiting: threading.Event = field(factory=threading.Event)
    go_on: threading.Event = field(factory=threading.Event)

    at_cut: Callable[[], object] = bool

    def cut(self, method: str, after_chunks: int) -> None:
        """Cut the next call of this method after so many chunks of its answer; -1: before it is heard."""
        self.cuts.append((method, after_chunks))


@contextmanager
def agent(
    *script: list[Any],
    work: Callable[[str], list[Any]] | None = None,
    streaming: bool = True,
    elsewhere: str | None = None,
) -> Iterator[Agent]:
    """The agent, until the block ends; each message takes the next list of the script.

    Args:
        work: returns what to do for a message, in place of a script.
        elsewhere: what the card names as the place to send messages to; by default its own.
    """
    made = Agent(work or list(script))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        made.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = _Cutting(_app(made, streaming, elsewhere or made.url), made)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.go_on.set()
            server.should_exit = True
            thread.join()


def _app(made: Agent, streaming: bool, place: str) -> Starlette:
    card = AgentCard(
        name="scripted",
        description="Does as it is told.",
        version="1",
        supported_interfaces=[AgentInterface(url=place, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="any", name="Anything", description="Does as it is told.", tags=["test"])],
    )
    handler = DefaultRequestHandler(_Executor(made), InMemoryTaskStore(), card)
    return Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")])


class _Executor(AgentExecutor):
    def __init__(self, made: Agent) -> None:
        self._made = made

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        said = _text_of(context.message)
        self._made.told.append((context.message.message_id, said))
        script = self._made.script
        steps = script(said) if callable(script) else script.pop(0)
        if isinstance(steps[0], Answers):
            await event_queue.enqueue_event(new_text_message(steps[0].text, context_id=context.context_id))
            return
        if context.current_task is None:
            await event_queue.enqueue_event(_new_task(context))
        updater = TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
        await updater.start_work()
        for step in steps:
            await self._do(step, updater)

    async def _do(self, step: Any, updater: TaskUpdater) -> None:
        if isinstance(step, Says):
            message = updater.new_agent_message([new_text_part(step.text)])
            await updater.update_status(TaskState.TASK_STATE_WORKING, message)
        elif isinstance(step, Streams):
            for index, piece in enumerate(step.pieces):
                parts = [new_text_part(piece)]
                await updater.add_artifact(parts, artifact_id="text", append=index > 0)
        elif isinstance(step, Delivers):
            await updater.add_artifact([new_data_part(step.data)])
        elif isinstance(step, Takes):
            await asyncio.sleep(step.seconds)  # its work
        elif isinstance(step, Waits):
            self._made.waiting.set()
            await asyncio.to_thread(self._made.go_on.wait)
        else:
            said = updater.new_agent_message([new_text_part(step.text)]) if step.text else None
            await updater.update_status(step.state, said)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        self._made.cancelled.set()
        self._made.go_on.set()
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


def _new_task(context: RequestContext) -> Task:
    return Task(
        id=context.task_id,
        context_id=context.context_id,
        status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED),
        history=[context.message] if context.message else [],
    )


def _text_of(message: Message) -> str:
    return get_message_text(message) or json.dumps([message_json(part.data) for part in message.parts])


class _Cutting:
    """Writes down what is asked, and cuts connections or refuses when the test wants it."""

    def __init__(self, app: ASGIApp, made: Agent) -> None:
        self._app = app
        self._made = made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        method = json.loads(body)["method"]
        self._made.calls.append(method)
        headers = dict(scope["headers"])
        self._made.tokens.add(headers.get(b"authorization", b"").decode() or None)
        if self._made.refusals:
            await send({"type": "http.response.start", "status": self._made.refusals.pop(0), "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        left = next((chunks for name, chunks in self._made.cuts if name == method), None)
        if left is not None:
            self._made.cuts.remove((method, left))
        if left == -1:
            self._made.at_cut()
            raise ConnectionAbortedError("cut by the test")

        async def replay() -> Any:
            nonlocal body
            if body is not None:
                sent, body = body, None
                return {"type": "http.request", "body": sent, "more_body": False}
            return await receive()

        async def cut(message: Any) -> None:
            nonlocal left
            if left is not None and message["type"] == "http.response.body":
                if left == 0:
                    self._made.at_cut()
                    raise ConnectionAbortedError("cut by the test")
                left -= 1
            await send(message)

        await self._app(scope, replay, cut)


async def _body(receive: Receive) -> Any:
    whole = b""
    while True:
        message = await receive()
        whole += message.get("body", b"")
        if not message.get("more_body"):
            return whole
