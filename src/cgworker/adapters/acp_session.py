"""A turn's session with a coding agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from acp import (
    PROTOCOL_VERSION,
    InitializeResponse,
    PromptResponse,
    RequestError,
    connect_to_agent,
    text_block,
)
from acp.schema import (
    AgentMessageChunk,
    AgentPlanUpdate,
    AgentThoughtChunk,
    ClientCapabilities,
    FileSystemCapabilities,
    Implementation,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
)
from pydantic import ValidationError

from cgworker.adapters.acp_calls import ToolCalls
from cgworker.adapters.acp_client import AcpClient, PermissionRequest
from cgworker.adapters.acp_permission import Permission
from cgworker.adapters.acp_stdio import StdioMessages
from cgworker.adapters.harness import Harness
from cgworker.adapters.messages import new_texts
from cgworker.durable.stream import Stream
from cgworker.errors import HandlerFailed, UsageError
from cgworker.handlers.base_command import hand_back_after_guard
from cgworker.handlers.child import ChildProcess
from cgworker.lease import Reason
from cgworker.outcome import Outcome, Suspending, fail, stop, succeed
from cgworker.wire.converter import dumps, loads

if TYPE_CHECKING:
    from cgworker.adapters.acp import ACPAgent

T = TypeVar("T")

SESSION_ROLE = "acp_session"
USED_ROLE = "permission_used"

_KEYS = "permission:"
_AUTH_REQUIRED = -32000  # the protocol's error codes are in acp.RequestError
_GRACE_SECONDS = 2.0


class Session:
    """A session, made by `ACPAgent`, which documents the arguments.

    The session's id and the permissions that were used up in it are public records. If the agent can load
    the session, the next attempt continues in it, and a permission given once does not cover another call.
    Tool calls that have ended are private steps; the next attempt tells the agent of them.

    Attributes:
        harness: the attempt at the turn.
    """

    def __init__(
        self, agent: ACPAgent, harness: Harness, child: ChildProcess, folder: Path, mask: Callable[[str], str]
    ) -> None:
        self.harness: Harness = harness
        self._agent = agent
        self._turn = turn = harness.turn
        self._child = child
        self._folder = folder
        self._mask = mask
        self._client = AcpClient(turn, folder)
        transport: Any = StdioMessages(*child.stdio)
        self._connection = connect_to_agent(cast("Any", self._client), transport)
        self._session_id: str | None = None
        self._answering: asyncio.Task[PromptResponse] | None = None
        self._calls = ToolCalls(harness, agent.shown, mask)
        self._permitted: dict[str, str] = {}
        self._used: set[str] = set()
        self._words: list[str] = []

    async def run(self, prompt: Any) -> Outcome:
        """Send the prompt to the agent, record what it does, and return the outcome.

        Args:
            prompt: a text or a list of content blocks.

        Raises:
            HandlerFailed: the agent refused, answered nonsense, did not start in time, or ended.
        """
        await self._calls.read()
        try:
            with anyio.fail_after(self._agent.start_seconds):
                goes_on = await self._open()
        except TimeoutError:
            seconds = self._agent.start_seconds
            raise HandlerFailed({"error": "acp_no_answer", "start_seconds": seconds}) from None
        blocks = [text_block(prompt)] if isinstance(prompt, str) else list(prompt)
        blocks = [text_block(self._agent.go_on), *blocks] if goes_on else blocks
        if (done := self._calls.summary(is_known=goes_on)) is not None:
            blocks.append(text_block(f"\n\n{done}\n"))
        answer = await self._converse([*blocks, *await self._news()])
        while answer.stop_reason == "end_turn" and self._turn.interruption is None:
            if not (news := await self._news()):
                break
            answer = await self._converse(news)
        return self._outcome_of(answer.stop_reason)

    async def _news(self) -> list[Any]:
        """Return the messages to the turn that arrived while the agent worked, for its next prompt."""
        return [text_block(text) for text in await new_texts(self._turn)]

    async def cancel(self) -> bool:
        """Tell the agent to stop; `run` then returns. Return False if the agent is not at work."""
        if self._answering is None or self._answering.done():
            return False
        self._client.end_waiting()
        with suppress(ConnectionError):
            await self._connection.cancel(str(self._session_id))
        return True

    async def close(self) -> None:
        """End the agent in an orderly way, if that is quick enough; `ACPAgent` kills what is left."""
        interruption = self._turn.interruption
        is_lost = interruption is not None and interruption.reason is Reason.LEASE_LOST
        with anyio.move_on_after(0 if is_lost else _GRACE_SECONDS):
            await self.cancel()
            if self._answering is not None:
                await asyncio.wait([self._answering])
        await self._connection.close()
        with anyio.move_on_after(0 if is_lost else _GRACE_SECONDS):
            await self._child.wait()

    # ------------------------------------------------------------ opening

    async def _open(self) -> bool:
        """Open a session; return True if the agent has worked on this turn in it before."""
        hello = await self._call(
            self._connection.initialize(
                PROTOCOL_VERSION,
                ClientCapabilities(fs=FileSystemCapabilities(read_text_file=True, write_text_file=True)),
                Implementation(name="cgworker", version="1"),
            )
        )
        if hello.protocol_version != PROTOCOL_VERSION:
            versions = {"agent_speaks": hello.protocol_version, "worker_speaks": PROTOCOL_VERSION}
            raise HandlerFailed({"error": "acp_protocol_version", **versions})
        if self._agent.auth_method is not None:
            await self._call(self._connection.authenticate(self._agent.auth_method))
        goes_on = await self._load(hello) or not await self._begin(hello)
        if self._agent.mode is not None:
            await self._call(self._connection.set_session_mode(str(self._session_id), self._agent.mode))
        self._client.is_open = True
        return goes_on

    async def _load(self, hello: InitializeResponse) -> bool:
        """Load the session of an earlier attempt; return False if the agent has none."""
        earlier = await self._turn.records(SESSION_ROLE)
        if not earlier or hello.agent_capabilities is None or not hello.agent_capabilities.load_session:
            return False
        session_id = earlier[-1].payload["session_id"]
        try:
            await self._connection.load_session(
                str(self._folder), session_id, mcp_servers=list(self._agent.mcp_servers)
            )
        except RequestError:  # the session is on another machine, or was removed
            return False
        except ConnectionError:
            raise await self._gone() from None
        used = [item.payload for item in await self._turn.records(USED_ROLE)]
        self._used = {each["key"] for each in used if each["session_id"] == session_id}
        self._session_id = session_id
        return True

    async def _begin(self, hello: InitializeResponse) -> bool:
        """Begin a new session."""
        try:
            opened = await self._call(
                self._connection.new_session(str(self._folder), mcp_servers=list(self._agent.mcp_servers))
            )
        except HandlerFailed as failed:
            methods = [method.id for method in hello.auth_methods or ()]
            if failed.payload.get("code") != _AUTH_REQUIRED:
                raise
            raise HandlerFailed({"error": "acp_auth_required", "auth_methods": methods}) from failed
        self._session_id = opened.session_id
        await self._turn.record({"session_id": opened.session_id}, SESSION_ROLE)
        return True

    # ------------------------------------------------------------ following the agent

    async def _converse(self, blocks: list[Any]) -> PromptResponse:
        """Send a prompt, and record what the agent does until it ends."""
        self._words.clear()
        prompting = self._connection.prompt(str(self._session_id), prompt=blocks)
        self._answering = answering = asyncio.create_task(cast("Any", prompting))
        answering.add_done_callback(self._note_answer)
        async with self._turn.stream() as text, self._turn.stream("thought") as thoughts:
            while (update := await self._client.updates.get()) is not None:
                await self._take(update, text, thoughts)
        answer: PromptResponse = await self._call(answering)
        if answer.usage is not None:
            await self._turn.record(answer.usage.model_dump(mode="json", exclude_none=True), "usage")
        return answer

    def _note_answer(self, answering: asyncio.Task[PromptResponse]) -> None:
        self._client.updates.put_nowait(None)
        if not answering.cancelled():
            answering.exception()  # mark it as retrieved, even if nothing awaits the task any more

    async def _take(self, update: Any, text: Stream, thoughts: Stream) -> None:
        match update:
            case AgentMessageChunk(content=TextContentBlock(text=said)):
                self._words.append(said)
                await text.write(self._mask(said))
            case AgentThoughtChunk(content=TextContentBlock(text=said)) if self._agent.thoughts:
                await thoughts.write(self._mask(said))
            case ToolCallStart() | ToolCallProgress():
                await text.flush()
                await self._note_call(update)
            case AgentPlanUpdate():
                entries = update.model_dump(mode="json", exclude_none=True)["entries"]
                await self._turn.record(self._public({"entries": entries}), "plan")
            case PermissionRequest():
                update.answer.set_result(await self._decide(update))
            case _:  # modes, commands and titles do not concern the turn
                pass

    async def _note_call(self, update: ToolCallStart | ToolCallProgress) -> None:
        is_told, has_ended = await self._calls.note(update)
        if has_ended and (key := self._permitted.pop(update.tool_call_id, None)) is not None:
            self._used.add(key)
            await self._turn.record({"session_id": self._session_id, "key": key}, USED_ROLE)
        if is_told:
            self._words.clear()  # the deliverable is the text after the last call

    # ------------------------------------------------------------ permissions

    async def _decide(self, request: PermissionRequest) -> str:
        """Return the answer of the rule or of people; suspend the turn while there is none."""
        permission = self._permission_of(request)
        ids = [option["id"] for option in permission.options]
        if (chosen := self._agent.permit(permission)) is None:
            return await self._ask(request.tool_call.tool_call_id, permission, ids)
        if chosen not in ids:
            raise UsageError(f"permit= answered {chosen!r}, which is none of the agent's options: {ids}")
        return chosen

    async def _ask(self, call_id: str, permission: Permission, ids: list[str]) -> str:
        question = self._public(
            {
                "permission": permission.title,
                "kind": permission.kind,
                "input": permission.input,
                "locations": permission.locations,
                "content": permission.content,
                "options": permission.options,
            }
        )
        key = await self._key_of(question)
        chosen = await self._turn.ask({"enum": ids}, question, key=key)
        if not permission.is_lasting(chosen):
            self._permitted[call_id] = key
        return str(chosen)

    async def _key_of(self, question: Any) -> str:
        """Return the question's earlier key, unless it is used up in this session; else a new one."""
        said = [item.payload for item in await self._turn.records("question")]
        asked = [each for each in said if each["key"].startswith(_KEYS)]
        known = (e["key"] for e in asked if e["question"] == question and e["key"] not in self._used)
        return next(known, f"{_KEYS}{len(asked)}")

    def _permission_of(self, request: PermissionRequest) -> Permission:
        call = self._calls.of(request.tool_call)
        return Permission(
            title=call.get("title", ""),
            kind=call.get("kind", "other"),
            input=call.get("input"),
            locations=call.get("locations", []),
            content=call.get("content", []),
            options=[{"id": o.option_id, "name": o.name, "kind": o.kind} for o in request.options],
        )

    # ------------------------------------------------------------ the end

    def _outcome_of(self, stop_reason: str) -> Outcome:
        says = {"text": self._mask("".join(self._words))}
        if stop_reason == "end_turn":
            return succeed(says)
        if stop_reason == "cancelled" and self._turn.interruption is not None:
            return stop(says)
        return fail({"error": f"acp_{stop_reason}", "agent_says": says})

    async def _call(self, answer: Awaitable[T]) -> T:
        """Await the agent's answer.

        Raises:
            HandlerFailed: the agent refused, answered nonsense, or ended.
        """
        try:
            return await answer
        except ConnectionError:
            raise await self._gone() from None
        except RequestError as refused:
            said = {"code": refused.code, "message": self._mask(str(refused))}
            raise HandlerFailed({"error": "acp_error", **said}) from refused
        except ValidationError as nonsense:
            raise HandlerFailed({"error": "acp_invalid_answer", "message": str(nonsense)[:500]}) from nonsense

    async def _gone(self) -> HandlerFailed | Suspending:
        """Return the error for an agent whose process has ended or does not answer any more.

        If the guard has ended it, the turn did nothing wrong and is handed back.
        """
        exit_code = None
        with anyio.move_on_after(_GRACE_SECONDS):
            exit_code = await self._child.wait()
        if exit_code and (handed_back := hand_back_after_guard(self._turn, self._child)) is not None:
            return Suspending(handed_back)
        report = {"error": "acp_agent_ended", "child_exit_code": exit_code}
        return HandlerFailed({**report, "stderr_tail": list(self._child.tail)})

    def _public(self, value: Any) -> Any:
        return loads(self._mask(dumps(value).decode()))
