"""Offer a CommonGround agent as an A2A server, on asyncio: `cgworker[a2a]`.

The server keeps no state: a task is a turn and has its id, and everything else is read from the kernel. So
the server may be restarted at any time, and several may run at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import anyio
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
)
from a2a.utils.errors import (
    ExtendedAgentCardNotConfiguredError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware

from cgworker.adapters.a2a_access import AccessMiddleware, UsersById
from cgworker.adapters.a2a_mapping import MODES, answer_of, skill_of, translated_errors
from cgworker.adapters.a2a_parts import value_of
from cgworker.adapters.a2a_tasks import PAUSED_OR_ENDED, TurnAsTask, Update, annotation_for, origin_in
from cgworker.client import KernelClient
from cgworker.deprecation import warn_renamed
from cgworker.durable.answers import answer_question, questions_of
from cgworker.errors import (
    ConflictError,
    UsageError,
)
from cgworker.retrying import Backoff
from cgworker.wire.converter import dumps
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

_WAIT_SECONDS = 20.0
_CANCEL_SECONDS = 10.0
_AT_ONCE_SECONDS = 0.05  # a kernel that answers "no news" sooner than this does not support waiting


def input_of(message: Message) -> Any:
    """Return the turn's input for a message: `{"text": ...}` for texts, the data of a single data part.

    Args:
        message: the message that begins a task.
    """
    return value_of(message.parts)


def a2a_app(
    kernel: KernelClient,
    agent_id: str,
    *,
    url: str,
    kind: str = CONVERSATION_KIND,
    input: Callable[[Message], Any] = input_of,
    middleware: Sequence[Middleware] = (),
    max_bytes: int = 16 * 1024 * 1024,
    most_bytes: int | None = None,
) -> Starlette:
    """Make an application that offers an agent to A2A clients.

    Serve it with `uvicorn.run(a2a_app(kernel, "desk", url=...))`.

    Everyone who can reach the application may use it. Add your authentication as `middleware`: with
    Starlette's `AuthenticationMiddleware` each user sees only their own tasks, by `identity`, and unknown
    callers get a 401.

    Args:
        kernel: makes calls under the agent that dispatches the turns. That agent needs the grants
            `turn.resume.any` for answers and `turn.stop.any` for cancelling. The caller closes the client.
        agent_id: the agent that gets the turns, in the same project.
        url: the address under which clients reach the application.
        kind: the kind of the turns. The agent card shows the agent's offer of it, if there is one.
        input: returns the turn's input for a message; by default `{"text": ...}` for texts, and data as it
            is.
        middleware: the application's middleware.
        max_bytes: the largest body of a request; a larger one gets a 413.
        most_bytes: the old name of `max_bytes`; deprecated.

    Raises:
        UsageError: the caller's fault: `kernel` has no agent.
    """
    if most_bytes is not None:
        warn_renamed("a2a_app(most_bytes=)", "max_bytes=")
        max_bytes = most_bytes
    if kernel.agent is None:
        raise UsageError(
            "offering an agent needs a kernel client with an agent: KernelClient(url, agent=...)"
        )
    target = AgentRef(project_id=kernel.agent.project_id, agent_id=agent_id)
    handler = _AgentHandler(kernel, kernel.agent, target, kind, input)
    card = AgentCard(
        name=agent_id,
        version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=MODES,
        default_output_modes=MODES,
        description=f"The agent {agent_id}.",
        skills=[skill_of(kind, None)],
    )
    return Starlette(
        routes=[
            *create_agent_card_routes(card, card_modifier=handler.describe),
            *create_jsonrpc_routes(handler, "/", context_builder=UsersById()),
        ],
        middleware=[*middleware, Middleware(AccessMiddleware, max_bytes=max_bytes)],
    )


class _AgentHandler(RequestHandler):
    """Handles the requests of A2A clients to the agent."""

    def __init__(
        self,
        kernel: KernelClient,
        requester: AgentRef,
        target: AgentRef,
        kind: str,
        input: Callable[[Message], Any],
    ) -> None:
        self._kernel = kernel
        self._requester = requester
        self._target = target
        self._kind = kind
        self._input = input

    async def describe(self, card: AgentCard) -> AgentCard:
        """Return the card with the agent's current offer.

        Args:
            card: the card without it.
        """
        agent = await self._kernel.agents.get(self._target)
        offers = await self._kernel.projections.turn_offers(
            self._target.project_id, turn_kind=self._kind, agent_id=self._target.agent_id
        )
        described = AgentCard()
        described.CopyFrom(card)
        described.description = agent.description or card.description
        if offers.items:
            del described.skills[:]
            described.skills.extend(skill_of(self._kind, offer) for offer in offers.items)
        return described

    # ------------------------------------------------------------ messages

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task:
        """Begin a task or answer its question; wait until the task pauses or ends, unless told not to."""
        with translated_errors():
            seen = await self._take(params.message, context)
            if not params.configuration.return_immediately:
                async with aclosing(self._updates(seen)) as updates:
                    async for _ in updates:
                        pass
                seen = await self._read(seen.snapshot.turn, context)
            return seen.task(_history_length(params.configuration))

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """Begin a task or answer its question; yield what happens until the task pauses or ends."""
        with translated_errors():
            seen = await self._take(params.message, context)
            yield seen.task(_history_length(params.configuration))
            async with aclosing(self._updates(seen)) as updates:
                async for update in updates:
                    yield update

    async def _take(self, message: Message, context: ServerCallContext) -> TurnAsTask:
        """Return the task of this message; repeating a message has no effect."""
        if not message.message_id or not message.parts:
            raise InvalidParamsError("a message needs a messageId and at least one part")
        if not message.task_id:
            return await self._read(await self._dispatch(message, context.user.user_name), context)
        seen = await self._read(self._turn(message.task_id), context)
        await self._answer(seen, message)
        return await self._read(seen.snapshot.turn, context)

    async def _dispatch(self, message: Message, user: str) -> TurnRef:
        facts = dumps([self._target.agent_id, self._kind, user, message.message_id])
        key = f"a2a:{hashlib.sha256(facts).hexdigest()}"
        return await self._kernel.turns.dispatch(
            Dispatch(
                requested_by=self._requester,
                target_agent=self._target,
                input=self._input(message),
                turn_kind=self._kind,
                dispatch_key=key,
                authority=RootRequest(request_id=key),
                meta=Meta(annotations=annotation_for(message, user)),
            )
        )

    async def _answer(self, seen: TurnAsTask, message: Message) -> None:
        question = seen.questions[-1] if seen.questions else None
        try:
            await answer_question(
                self._kernel,
                seen.snapshot.turn,
                answer_of(message, question.schema if question else {}),
                key=question.key if question else None,
                answer_id=message.message_id,
            )
        except ConflictError as nothing_open:
            raise UnsupportedOperationError(str(nothing_open)) from nothing_open

    # ------------------------------------------------------------ tasks

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        """Return the current state of a task."""
        with translated_errors():
            return (await self._read(self._turn(params.id), context)).task(_history_length(params))

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """Yield a task, and everything that happens to it until it pauses or ends."""
        with translated_errors():
            seen = await self._read(self._turn(params.id), context)
            if seen.snapshot.state == "closed":
                raise UnsupportedOperationError(f"task {params.id} has ended")
            yield seen.task()
            async with aclosing(self._updates(seen)) as updates:
                async for update in updates:
                    yield update

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        """Request a stop of the turn, and wait a little for it."""
        with translated_errors():
            seen = await self._read(self._turn(params.id), context)
            if seen.snapshot.state == "closed":
                raise TaskNotCancelableError(f"task {params.id} has ended")
            await self._kernel.turns.stop(seen.snapshot.turn, requested_by=self._requester)
            with anyio.move_on_after(_CANCEL_SECONDS):
                async with aclosing(self._updates(seen)) as updates:
                    async for _ in updates:
                        pass
            return (await self._read(seen.snapshot.turn, context)).task()

    def _turn(self, task_id: str) -> TurnRef:
        return TurnRef(project_id=self._target.project_id, turn_id=task_id)

    async def _read(self, turn: TurnRef, context: ServerCallContext) -> TurnAsTask:
        """Return the turn if it is one of this user's tasks at this agent."""
        seen = await self._look(turn)
        if seen is None or seen.origin.user != context.user.user_name:
            raise TaskNotFoundError
        return seen

    async def _look(self, turn: TurnRef) -> TurnAsTask | None:
        """Return the current state of the turn; None if it was not begun by a message to this agent."""
        # Events are read first: what happens while the rest is read comes again as a later event.
        events = [event async for event in self._kernel.turns.events(turn)]
        snapshot = await self._kernel.turns.get(turn)
        origin = origin_in(events)
        is_ours = origin is not None and origin.dispatched_by == self._requester.agent_id
        if origin is None or not is_ours or snapshot.target_agent != self._target:
            return None
        return TurnAsTask(
            snapshot=snapshot,
            origin=origin,
            events=events,
            items=[item async for item in self._kernel.turns.records(turn)],
            questions=await questions_of(self._kernel, turn) if snapshot.state == "suspended" else (),
        )

    async def _updates(self, seen: TurnAsTask) -> AsyncGenerator[Update, None]:
        """Yield everything that happens after `seen`, until the task pauses or ends."""
        pause = Backoff(0.1, 1.0)
        while seen.status().state not in PAUSED_OR_ENDED:
            asked_at = anyio.current_time()
            page = await self._kernel.turns.feed(
                seen.snapshot.turn,
                after_ledger_seq=seen.events[-1].ledger_seq,
                wait_seconds=_WAIT_SECONDS,
            )
            if not page.items:
                if anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
                    await anyio.sleep(pause.next_seconds())
                continue
            pause.reset()
            now = await self._look(seen.snapshot.turn)
            assert now is not None  # the origin of a turn does not change
            for update in now.updates_after(seen.items[-1].record.turn_seq):
                yield update
            if now.status().state != seen.status().state:
                yield now.status_update(now.status())
            seen = now

    # ------------------------------------------------------------ not supported

    async def on_list_tasks(self, params: Any, context: ServerCallContext) -> Any:  # noqa: ARG002
        """Refuse: clients know the tasks that they began."""
        raise UnsupportedOperationError("tasks are not listed here")

    async def on_get_extended_agent_card(self, params: Any, context: ServerCallContext) -> Any:  # noqa: ARG002
        """Refuse: there is one card for all callers."""
        raise ExtendedAgentCardNotConfiguredError

    async def _push_nothing(self, params: Any, context: ServerCallContext) -> Any:  # noqa: ARG002
        """Refuse: the server sends no push notifications."""
        raise PushNotificationNotSupportedError

    on_create_task_push_notification_config = _push_nothing
    on_get_task_push_notification_config = _push_nothing
    on_list_task_push_notification_configs = _push_nothing
    on_delete_task_push_notification_config = _push_nothing


def _history_length(params: Any) -> int | None:
    return params.history_length if params.HasField("history_length") else None
