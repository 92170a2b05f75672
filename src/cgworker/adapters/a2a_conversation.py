"""A turn's conversation with an A2A agent, in which no message is sent twice."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import A2AError

from cgworker.adapters.a2a_parts import parts_of, status_digest, status_message, text_of, value_of
from cgworker.durable.stream import Stream
from cgworker.handlers.environment import mask_for
from cgworker.outcome import Outcome, fail, stop, succeed
from cgworker.retrying import Backoff, retry
from cgworker.turn import Turn
from cgworker.wire.converter import dumps, loads

T = TypeVar("T")

ANSWER_SCHEMA = {"type": ["string", "object"]}
"""The schema of the answer to an agent that needs input: a text, or data."""

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REFUSED_FOR_NOW = frozenset({429, 503})
_MAY_PASS = frozenset({429, 502, 503, 504})


class AgentFailed(Exception):
    """The agent refused, or stayed unreachable in all retries; the text contains no secret."""


class _Ended(Exception):
    """The conversation has ended, with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Conversation:
    """A conversation, made by `A2AAgent`, which documents the arguments.

    Attributes:
        task_id: the agent's task; None until it is known.
    """

    def __init__(
        self,
        turn: Turn,
        http: httpx.AsyncClient,
        url: str,
        *,
        retries: int,
        poll_seconds: float,
        send_again: bool,
        secrets: tuple[str, ...],
    ) -> None:
        self._turn = turn
        self._http = http
        self._url = url
        self._retries = retries
        self._poll_seconds = poll_seconds
        self._send_again = send_again
        self._mask = mask_for(secrets)
        self._streams = False
        self._client: Client | None = None
        self._before: str | None = None
        self._found = anyio.Event()
        self.task_id: str | None = None

    async def run(self, content: Any) -> Outcome:
        """Send a message, answer the agent's questions, and return the outcome.

        Args:
            content: the message, a JSON value.

        Raises:
            AgentFailed: the agent refused, or stayed unreachable in all retries.
        """
        try:
            for number in itertools.count():
                asked = await self._turn.once(f"a2a:asked:{number}", partial(self._ask, number, content))
                self._before = asked.get("digest") or status_digest(asked["status"])  # of 0.2
                content = await self._turn.ask(ANSWER_SCHEMA, asked["said"], key=f"a2a:{number}")
        except _Ended as ended:
            return ended.outcome
        raise AssertionError("an endless loop has ended")

    async def cancel(self) -> None:
        """Cancel the agent's task as soon as it is known; `run` then returns.

        Raises:
            AgentFailed: the agent refused, or stayed unreachable in all retries.
        """
        await self._found.wait()
        client = await self._connect()
        try:
            await client.cancel_task(CancelTaskRequest(id=self.task_id))
        except TaskNotCancelableError:
            return  # the task has ended meanwhile
        except A2AError as error:
            raise self._failed(error) from None

    # ------------------------------------------------------------ one round

    async def _ask(self, number: int, content: Any) -> dict[str, Any]:
        """Send a message; return what the agent asks in reply, or raise `_Ended`."""
        answer = await self._converse(number, content)
        if isinstance(answer, Message):
            raise _Ended(succeed(self._public(value_of(answer.parts))))
        if answer.status.state != TaskState.TASK_STATE_INPUT_REQUIRED:
            raise _Ended(await self._outcome_of(answer))
        return {"said": self._public(status_message(answer.status)), "digest": status_digest(answer.status)}

    async def _converse(self, number: int, content: Any) -> Message | Task:
        """Return the agent's answer, or its task once it pauses or ends, in spite of lost connections."""
        await self._connect()
        is_new = await self._is_new(number)
        if self.task_id is None:
            await self._recall_task()
        request = self._request(number, content)
        answer = await self._send(request) if is_new else None
        while answer is None:
            answer = await self._catch_up(request)
            if answer is None:
                await anyio.sleep(self._poll_seconds)
        return answer

    async def _is_new(self, number: int) -> bool:
        """Mark that this message is about to be sent; return True if no attempt has marked it before."""
        marked: list[int] = []

        def mark() -> str:
            marked.append(number)
            return self._message_id(number)

        await self._turn.once(f"a2a:sent:{number}", mark)
        return bool(marked)

    def _message_id(self, number: int) -> str:
        return f"{self._turn.fingerprint}:{number}"

    def _request(self, number: int, content: Any) -> SendMessageRequest:
        message = Message(
            message_id=self._message_id(number),
            context_id=self._turn.fingerprint,
            task_id=self.task_id if number else None,
            role=Role.ROLE_USER,
            parts=parts_of(content),
        )
        # An agent that does not stream shall answer at once, so that no connection has to stay open.
        return SendMessageRequest(
            message=message, configuration=SendMessageConfiguration(return_immediately=True)
        )

    async def _send(self, request: SendMessageRequest) -> Message | Task | None:
        """Send the message; return None if the connection was lost meanwhile."""

        async def send() -> Message | Task | None:
            return await self._follow((await self._connect()).send_message(request))

        try:
            return await self._retry_if(send, lambda error: _may_pass(error) and not _was_sent(error))
        except A2AError as error:
            if _was_sent(error) and _may_pass(error):
                return None
            raise self._failed(error) from None

    async def _catch_up(self, request: SendMessageRequest) -> Message | Task | None:
        """Return the task once it pauses or ends, after a lost connection; None to try again later."""
        if self.task_id is None and not await self._find_task():
            return await self._send(request)
        client = await self._connect()
        task = await self._retry(lambda: client.get_task(GetTaskRequest(id=self.task_id)))
        if self._stands_still(task.status):
            return task
        if self._is_before(task.status) and not _has(task, request.message):
            if not task.history:
                self._check_repeatable()
            return await self._send(request)
        if not self._streams:
            return None
        try:
            return await self._follow(client.subscribe(SubscribeToTaskRequest(id=self.task_id)))
        except A2AError:
            return None  # the task or the connection has just ended: the task is read again

    async def _follow(self, events: AsyncIterator[StreamResponse]) -> Message | Task | None:
        """Record what the agent does until the task pauses or ends; None if the stream ended before."""
        async with aclosing(cast("Any", events)), self._turn.stream() as text:
            async for event in events:
                if event.HasField("message"):
                    return event.message
                if await self._publish(event, text):
                    break
            else:
                return None
        client = await self._connect()  # read the whole task, with all its artifacts
        return await self._retry(lambda: client.get_task(GetTaskRequest(id=self.task_id)))

    async def _publish(self, event: StreamResponse, text: Stream) -> bool:
        """Record what the agent does; return True if the task pauses or ends."""
        if event.HasField("artifact_update"):
            await self._keep_task(event.artifact_update.task_id)
            await text.write(self._mask(text_of(event.artifact_update.artifact.parts)))
            return False
        is_whole = event.HasField("task")
        status = event.task.status if is_whole else event.status_update.status
        await self._keep_task(event.task.id if is_whole else event.status_update.task_id)
        if self._stands_still(status):
            return True
        if status.message.parts and not self._is_before(status):
            await text.flush()
            await self._turn.record({"agent_says": self._public(status_message(status))})
        return False

    # ------------------------------------------------------------ how the task stands

    def _stands_still(self, status: TaskStatus) -> bool:
        if status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING):
            return False
        return not self._is_before(status)

    def _is_before(self, status: TaskStatus) -> bool:
        """Return True if the status is still the question that is being answered."""
        return self._before is not None and status_digest(status) == self._before

    async def _outcome_of(self, task: Task) -> Outcome:
        says = self._public(status_message(task.status))
        parts = [part for artifact in task.artifacts for part in artifact.parts]
        delivered = self._public(value_of(parts)) if parts else says
        if task.status.state == TaskState.TASK_STATE_COMPLETED:
            return succeed(delivered)
        if task.status.state == TaskState.TASK_STATE_CANCELED and self._turn.interruption is not None:
            return stop(delivered)
        if task.status.state == TaskState.TASK_STATE_AUTH_REQUIRED:
            await self.cancel()  # no one will continue the task
        state = TaskState.Name(task.status.state).removeprefix("TASK_STATE_").lower()
        return fail({"error": f"a2a_{state}", "agent_says": says})

    def _public(self, value: Any) -> Any:
        """Mask the token, which some agents repeat in their messages."""
        return loads(self._mask(dumps(value).decode()))

    # ------------------------------------------------------------ finding the task

    async def _keep_task(self, task_id: str) -> None:
        if self.task_id is None:
            self.task_id = await self._turn.once("a2a:task", lambda: task_id)
            self._found.set()

    async def _recall_task(self) -> None:
        """Read the task's id that an earlier attempt has stored."""
        for step in [item.payload for item in await self._turn.records("step")]:
            if step["key"] == "a2a:task":
                await self._keep_task(step["value"])

    async def _find_task(self) -> bool:
        """Look for the turn's task at the agent: the message may have arrived though the answer was lost.

        Raises:
            _Ended: it is unknown whether the agent has one, and the message may not be sent again.
        """
        client = await self._connect()
        request = ListTasksRequest(context_id=self._turn.fingerprint)
        try:
            listed = await self._retry(lambda: client.list_tasks(request))
        except AgentFailed:  # some agents cannot list their tasks
            listed = ListTasksResponse()
        if not listed.tasks:
            self._check_repeatable()
            return False
        await self._keep_task(listed.tasks[0].id)
        return True

    def _check_repeatable(self) -> None:
        """Check that the message may be sent again although it may have arrived."""
        if not self._send_again:
            raise _Ended(fail({"error": "a2a_unknown_whether_sent"}))

    # ------------------------------------------------------------ connections

    async def _connect(self) -> Client:
        """Return a client for the agent, as its card describes it."""
        if self._client is None:
            card = await self._retry(A2ACardResolver(self._http, self._url).get_agent_card)
            self._streams = card.capabilities.streaming
            self._client = ClientFactory(ClientConfig(httpx_client=self._http)).create(card)
        return self._client

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until it succeeds or the retries are used up.

        Raises:
            AgentFailed: the agent refused the call, or was unreachable each time.
        """
        try:
            return await self._retry_if(call, _may_pass)
        except A2AError as error:
            raise self._failed(error) from None

    async def _retry_if(self, call: Callable[[], Awaitable[T]], on: Callable[[A2AError], bool]) -> T:
        def may_repeat(error: Exception) -> bool:
            return isinstance(error, A2AError) and on(error)

        return await retry(call, on=may_repeat, backoff=Backoff(0.2, 5.0), attempts=self._retries + 1)

    def _failed(self, error: Exception) -> AgentFailed:
        return AgentFailed(f"{type(error).__name__}: {self._mask(str(error))}")


def _may_pass(error: Exception) -> bool:
    cause = error.__cause__
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code in _MAY_PASS
    return isinstance(cause, httpx.TransportError)


def _was_sent(error: Exception) -> bool:
    """Return True if the message may have reached the agent."""
    cause = error.__cause__
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code not in _REFUSED_FOR_NOW
    return not isinstance(cause, _NEVER_SENT)


def _has(task: Task, message: Message) -> bool:
    return any(said.message_id == message.message_id for said in task.history)
