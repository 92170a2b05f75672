"""Bring messages of NanoBot's channels to an agent, and its results back, on asyncio: `cgworker[nanobot]`.

The companion stands at NanoBot's message bus, where NanoBot's own agent loop would. A message of a chat is a
root turn of the agent; its final payload is the reply. Messages of one chat are worked one after the other.
What was taken from the bus is kept in a folder until its reply is on the bus, so a companion that starts
again goes on with it.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
from attrs import define, field, frozen
from nanobot.bus.events import InboundMessage, OutboundMessage
from nanobot.bus.outbound_events import TurnEndEvent
from nanobot.bus.queue import MessageBus
from pydantic_core import to_jsonable_python

from cgworker.adapters.extras import require_asyncio
from cgworker.adapters.messages import text_of
from cgworker.adapters.turn_watch import until_answered, watch_turn
from cgworker.client import KernelClient
from cgworker.client.turns import require_agent
from cgworker.durable.answers import OpenQuestion, answer_question
from cgworker.durable.contract import faults_of
from cgworker.errors import CommonGroundError, ConflictError, InvalidRequest, KernelRefused
from cgworker.events import logger
from cgworker.paths import state_folder
from cgworker.private import make_private_folder, replace_private
from cgworker.wire.converter import dumps, loads
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest, TurnSnapshot

STOP = "/stop"
"""The message that stops the turn of its chat, as in NanoBot itself."""

_YES_OR_NO = {"yes": True, "y": True, "no": False, "n": False}


def chat_of(message: InboundMessage) -> str:
    """Return a name of a message's chat that does not reveal who is in it.

    Args:
        message: the message.
    """
    return _digest_of(message.session_key)[:16]


def input_of(message: InboundMessage) -> Any:
    """Return the default input of a turn: the text, and the name of the chat, without the author.

    Args:
        message: the message.
    """
    return {"text": message.content, "chat": chat_of(message)}


def reply_of(turn: TurnSnapshot) -> str:
    """Return the default reply: the text of the final payload, or else the payload as JSON.

    Args:
        turn: the closed turn.
    """
    if turn.outcome == "succeeded":
        return text_of(turn.final_payload)
    if turn.outcome == "stopped":
        said = turn.final_payload
        return text_of(said) if isinstance(said, Mapping) and said.get("text") else "Stopped."
    return f"This did not work: {text_of(turn.final_payload)}"


@frozen
class _Taken:
    """A message that was taken from the bus."""

    message: InboundMessage
    dispatch_key: str
    file: Path


@define
class _Chat:
    """A chat: its messages that wait, the turn that is worked, and the question that was put."""

    waiting: list[_Taken] = field(factory=list)
    is_worked: bool = False
    turn: TurnRef | None = None
    question: OpenQuestion | None = None


class NanobotCompanion:
    """Connects NanoBot's channels with an agent: `await NanobotCompanion(kernel, "desk", bus).run()`.

    A question of the turn is put into the chat, and the chat's next message is its answer. `/stop` stops the
    turn. The agent may be a NanoBot (`NanobotAdapter`), or any other.

    Args:
        kernel: makes calls under the agent that dispatches the turns; it needs the grants `turn.resume.any`
            for answers and `turn.stop.any` for `/stop`. The caller closes the client.
        agent_id: the agent that gets the turns, in the same project.
        bus: NanoBot's bus, to which its channels are connected.
        kind: the kind of the turns.
        input: returns a turn's input for a message; public; by default `input_of`.
        reply: returns the reply for a closed turn; by default `reply_of`.
        folder: keeps the messages until their replies are on the bus; by default a folder of this user.

    Raises:
        UsageError: the caller's fault: `kernel` has no agent.
    """

    def __init__(
        self,
        kernel: KernelClient,
        agent_id: str,
        bus: MessageBus,
        *,
        kind: str = CONVERSATION_KIND,
        input: Callable[[InboundMessage], Any] = input_of,
        reply: Callable[[TurnSnapshot], str] = reply_of,
        folder: Path | None = None,
    ) -> None:
        self._kernel = kernel
        self._requester = require_agent(kernel)
        self._target = AgentRef(project_id=self._requester.project_id, agent_id=agent_id)
        self._bus = bus
        self._kind = kind
        self._input = input
        self._reply = reply
        self._place = f"{self._requester.project_id}:{self._requester.agent_id}:{agent_id}"
        self._folder = folder or state_folder("nanobot") / _digest_of(self._place)[:16]
        self._chats: dict[str, _Chat] = {}

    async def run(self) -> None:
        """Bring messages to the agent and replies to the bus, until this is cancelled."""
        require_asyncio("NanoBot")
        make_private_folder(self._folder)
        async with anyio.create_task_group() as tasks:
            for taken in await anyio.to_thread.run_sync(self._kept):
                self._queue(taken, tasks)
            while True:
                message = await self._bus.consume_inbound()
                if message.channel != "system" and message.is_user_input:
                    await self._take(message, tasks)

    # ------------------------------------------------------------ messages

    async def _take(self, message: InboundMessage, tasks: anyio.abc.TaskGroup) -> None:
        chat = self._chats.setdefault(message.session_key, _Chat())
        if chat.turn is not None and message.content.strip() == STOP:
            tasks.start_soon(self._stop, chat.turn, message)
        elif chat.question is not None:
            question, chat.question = chat.question, None
            tasks.start_soon(self._answer, chat, question, message)
        else:
            self._queue(await anyio.to_thread.run_sync(self._keep, message), tasks)

    def _queue(self, taken: _Taken, tasks: anyio.abc.TaskGroup) -> None:
        chat = self._chats.setdefault(taken.message.session_key, _Chat())
        chat.waiting.append(taken)
        if not chat.is_worked:
            chat.is_worked = True
            tasks.start_soon(self._work, chat)

    async def _work(self, chat: _Chat) -> None:
        """Work a chat's messages, one after the other."""
        try:
            while chat.waiting:
                taken = chat.waiting.pop(0)
                try:
                    text, outcome = await self._follow(chat, taken)
                except Exception as failed:  # also of `input=` and `reply=`: other messages go on
                    logger.error("a message of %s could not be worked: %r", taken.message.channel, failed)
                    text, outcome = "This message could not be worked.", "failed"
                finally:
                    chat.turn = chat.question = None
                await self._say(taken.message, text)
                if taken.message.channel == "websocket":  # its clients wait for this
                    end = TurnEndEvent(outcome="failed" if outcome == "failed" else "completed")
                    await self._bus.publish_event(end, **_route_of(taken.message))
                await anyio.to_thread.run_sync(lambda file: file.unlink(missing_ok=True), taken.file)
        finally:
            chat.is_worked = False

    async def _follow(self, chat: _Chat, taken: _Taken) -> tuple[str, str]:
        """Dispatch a turn for a message, and put its questions; return the reply and the outcome."""
        dispatch = Dispatch(
            requested_by=self._requester,
            target_agent=self._target,
            input=self._input(taken.message),
            turn_kind=self._kind,
            dispatch_key=taken.dispatch_key,
            authority=RootRequest(request_id=taken.dispatch_key),
        )
        chat.turn = await until_answered(lambda: self._kernel.turns.dispatch(dispatch))
        asked: set[str] = set()
        async with aclosing(watch_turn(self._kernel, chat.turn, with_items=False)) as news:
            async for each in news:
                open_keys = {question.key for question in each.questions}
                if chat.question is not None and chat.question.key not in open_keys:
                    chat.question = None  # another has answered it
                asked &= open_keys  # a key may be asked again
                if chat.question is None and (new := [q for q in each.questions if q.key not in asked]):
                    chat.question = new[0]
                    asked.add(new[0].key)
                    await self._say(taken.message, text_of(new[0].question))
        return self._reply(each.snapshot), str(each.snapshot.outcome)

    async def _answer(self, chat: _Chat, question: OpenQuestion, message: InboundMessage) -> None:
        try:
            value = _answer_in(message.content, question.schema)
            await answer_question(self._kernel, question.turn, value, key=question.key)
        except InvalidRequest as unfit:
            chat.question = question
            faults = "; ".join(str(fault["msg"]) for fault in unfit.faults)
            await self._say(message, f"This is no answer to the question: {faults}. Please answer again.")
        except ConflictError:
            await self._say(message, "The question is answered already.")
        except CommonGroundError as refused:
            chat.question = question
            logger.error("a question of %s could not be answered: %s", question.turn.turn_id, refused)
            await self._say(message, "The answer could not be given. Please answer again.")

    async def _stop(self, turn: TurnRef, message: InboundMessage) -> None:
        try:
            await until_answered(lambda: self._kernel.turns.stop(turn, requested_by=self._requester))
        except KernelRefused as refused:  # it is closed, or the grant is missing
            logger.error("%s could not be stopped: %s", turn.turn_id, refused)
            await self._say(message, "It could not be stopped.")

    async def _say(self, message: InboundMessage, text: str) -> None:
        await self._bus.publish_outbound(OutboundMessage(content=text, **_route_of(message)))

    # ------------------------------------------------------------ the folder

    def _keep(self, message: InboundMessage) -> _Taken:
        """Write a message to the folder. One that the channel delivers again is the same turn."""
        own_id = message.metadata.get("message_id")
        name = f"{message.session_key}:{own_id}:{message.content}" if own_id else uuid.uuid4().hex
        key = f"nanobot:{_digest_of(f'{self._place}:{name}')}"
        taken = _Taken(message, key, self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json")
        kept = to_jsonable_python({"message": vars(message), "dispatch_key": key}, fallback=str)
        replace_private(taken.file, dumps(kept).decode())
        return taken

    def _kept(self) -> list[_Taken]:
        """Return the messages that are in the folder, oldest first."""
        found = []
        for file in sorted(self._folder.glob("*.json")):
            kept = loads(file.read_bytes())
            said = {name: kept["message"][name] for name in _KEPT}
            found.append(_Taken(InboundMessage(**said), kept["dispatch_key"], file))
        return found


_KEPT = ("channel", "sender_id", "chat_id", "content", "metadata", "session_key_override")


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _route_of(message: InboundMessage) -> dict[str, Any]:
    return {"channel": message.channel, "chat_id": message.chat_id, "metadata": dict(message.metadata)}


def _answer_in(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the answer that a text gives: itself, what it says as JSON, yes or no, or `{"text": ...}`."""
    candidates: list[Any] = [text, text.strip(), {"text": text}]
    with suppress(ValueError):
        candidates.append(loads(text))
    if (is_yes := _YES_OR_NO.get(text.strip().lower())) is not None:
        candidates.append(is_yes)
    return next((each for each in candidates if not faults_of(each, schema)), text)
