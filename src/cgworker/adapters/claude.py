"""Run Claude Code as a handler, with the package claude-agent-sdk, on asyncio: `cgworker[claude]`.

The session is kept as private steps of the turn, so any worker with the same private store goes on with it.
A tool call waits until the model's message with it is kept, and its result is kept before the model sees it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from attrs import field, frozen

from cgworker.adapters.claude_run import ClaudeRun, count, decision, find_cli, follow, is_allowed, outcome
from cgworker.adapters.claude_session import TurnSessions
from cgworker.adapters.extras import load, require, require_asyncio
from cgworker.adapters.harness import Harness
from cgworker.adapters.messages import text_of
from cgworker.errors import UsageError
from cgworker.handlers.adapter import Adapter, Output
from cgworker.lease import Interruption, Reason
from cgworker.turn import Turn
from cgworker.wire.converter import dumps

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ResultMessage

GO_ON = "You were interrupted, and may have been moved to another machine. Go on where you were."
_ASK_AGAIN = "Another call of this message waits for an approval. Make this call again afterwards."
_ANSWER_TOOL = "StructuredOutput"  # by which Claude gives an answer that has a schema
_HOOK_SECONDS = 600.0  # the package's own is 60; a call waits until the kernel has the message before it


def prompt_of(turn: Turn) -> str:
    """Return the default prompt: the input's text, or else the input as JSON.

    Args:
        turn: the turn.
    """
    return text_of(turn.input)


@frozen
class ClaudeAgent(Adapter[ClaudeRun]):
    """Runs Claude Code on each turn: `AdapterHandler(ClaudeAgent(ClaudeAgentOptions(...)))`.

    The deliverable is `{"text": ...}`, or the structured output if the options ask for one. Text is
    published as it comes, in records of role "progress", and so is the start and end of each tool call.

    Args:
        options: the package's options; without a session and a session store, which are the turn's.
        approve: the names of the tools whose calls need an approval, each a question of the turn; `*` stands
            for any text, as in `mcp__bank__*`. The options' own rules say what the other tools may do.
        prompt: returns the prompt; by default the input's text, or the input as JSON.
        question_seconds: how long to wait for an approval; None waits for ever.
        shown: returns what is public of a call that needs an approval; None shows name and input.
    """

    options: ClaudeAgentOptions
    approve: Sequence[str] = field(default=(), kw_only=True)
    prompt: Callable[[Turn], str] = field(default=prompt_of, kw_only=True)
    question_seconds: float | None = field(default=None, kw_only=True)
    shown: Callable[[str, Mapping[str, Any]], Any] | None = field(default=None, kw_only=True)
    _runs: dict[str, ClaudeRun] = field(factory=dict, init=False, repr=False, eq=False)

    def check(self) -> None:
        """Check the package and the options, before the worker starts.

        Raises:
            UsageError: the package or its command line is missing, or the options name a session.
        """
        require("claude_agent_sdk", "claude")
        taken = ("session_store", "session_id", "resume", "continue_conversation", "fork_session")
        if named := [name for name in taken if getattr(self.options, name, None)]:
            raise UsageError(f"ClaudeAgent: the session is the turn's; leave out {', '.join(named)}")
        if find_cli(self.options) is None:
            raise UsageError("ClaudeAgent: there is no Claude Code; give cli_path, or a wheel that has it")

    @asynccontextmanager
    async def prepare(self, turn: Turn) -> AsyncIterator[ClaudeRun]:
        """Read what earlier attempts kept.

        Args:
            turn: the turn.

        Yields:
            The run.
        """
        require_asyncio("claude-agent-sdk")
        await load("claude_agent_sdk")
        harness = Harness(turn, agent="claude", provider="anthropic", question_seconds=self.question_seconds)
        run = ClaudeRun(harness, TurnSessions(harness))
        await run.sessions.read()
        self._runs[turn.fingerprint] = run
        try:
            yield run
        finally:
            del self._runs[turn.fingerprint]

    async def drive(self, turn: Turn, prepared: ClaudeRun) -> AsyncGenerator[Any, None]:
        """Run Claude until it is done, and in between ask for approvals.

        Args:
            turn: the turn.
            prepared: the run.
        """
        run, harness = prepared, prepared.harness
        waiting = await harness.kept("deferred")
        for done in await harness.kept("tool"):
            run.results[done["id"]] = done["result"]
        async with harness.running():
            prompt: str | None = self._first_prompt(turn, run)
            news = await run.news()
            while True:
                call = self._open_call(run, waiting)
                said = None
                if call is not None:
                    await self._approve(run, call)
                else:
                    said, news = "\n\n".join(filter(None, (prompt, *news))) or GO_ON, []
                prompt = None
                result = await self._run(run, said)
                if (deferred := result.deferred_tool_use) is not None:
                    wanted = {"id": deferred.id, "name": deferred.name, "input": deferred.input}
                    waiting.append(await harness.keep("deferred", partial(dict, wanted)))
                    continue
                news += await run.news()
                if not news or turn.interruption is not None:
                    break
            count(run)
        yield Output(outcome(result, turn))

    async def _approve(self, run: ClaudeRun, call: Mapping[str, Any]) -> None:
        key = f"approve:{call['id']}"
        run.verdicts[call["id"]] = (await run.harness.approve({key: self._public(call)}))[key]

    async def interrupt(self, turn: Turn, interruption: Interruption) -> bool:
        """Tell Claude to stop; if the turn is still ours, what it has said by then is kept.

        Args:
            turn: the turn.
            interruption: why the handler is being ended.
        """
        run = self._runs.get(turn.fingerprint)
        if run is None or run.client is None or interruption.reason in (Reason.LEASE_LOST, Reason.SHUTDOWN):
            return False
        with anyio.move_on_after(interruption.grace_seconds / 2):
            await run.client.interrupt()
            return True
        return False

    # ------------------------------------------------------------ one run of the command line

    async def _run(self, run: ClaudeRun, prompt: str | None) -> ResultMessage:
        """Run the command line once; without a prompt it goes on with the call that waited."""
        from claude_agent_sdk import ClaudeSDKClient

        run.deferred = None
        client = ClaudeSDKClient(self._options(run))
        try:
            await client.connect()
            run.client = client
            if prompt is not None:
                await client.query(prompt)
            result = await follow(run, client)
        finally:
            run.client = None
            with anyio.CancelScope(shield=True):
                await client.disconnect()  # which keeps the last entries
        if run.sessions.failure is not None:
            raise run.sessions.failure
        return result

    def _options(self, run: ClaudeRun) -> ClaudeAgentOptions:
        from claude_agent_sdk import HookMatcher

        async def before(call: Any, tool_use_id: str | None, _context: Any) -> Any:
            name, call_id = str(call["tool_name"]), tool_use_id or ""
            await run.sessions.wait_for_call(call_id)
            decided = self._decide(run, name, call_id)
            if is_allowed(decided):
                run.names[call_id], run.began_ns[call_id] = name, time.time_ns()
            return decided

        async def after(call: Any, tool_use_id: str | None, _context: Any) -> Any:
            kept = {"id": tool_use_id, "name": call["tool_name"], "result": call.get("tool_response")}
            run.results[kept["id"]] = (await run.harness.keep("tool", lambda: kept))["result"]
            return {}

        def hook(function: Any) -> Any:  # a hook that fails must not let the call pass
            return HookMatcher(hooks=[function], timeout=_HOOK_SECONDS, on_failure="block")

        theirs = self.options.hooks or {}
        return replace(
            self.options,
            hooks={
                **theirs,
                "PreToolUse": [*theirs.get("PreToolUse", []), hook(before)],
                "PostToolUse": [*theirs.get("PostToolUse", []), hook(after)],
            },
            resume=run.sessions.session_id,
            session_store=cast("Any", run.sessions),  # it lacks what the package makes optional
            session_store_flush="eager",
            include_partial_messages=True,
        )

    def _decide(self, run: ClaudeRun, name: str, call_id: str) -> Mapping[str, Any]:
        """Return the hook's decision on a call."""
        if call_id in run.results:
            done = f"This call was carried out before. Its result: {dumps(run.results[call_id]).decode()}"
            return decision("deny", done)
        if name == _ANSWER_TOOL or not any(fnmatchcase(name, pattern) for pattern in self.approve):
            return {}
        verdict = run.verdicts.get(call_id)
        if verdict is not None:
            return decision("allow") if verdict.granted else decision("deny", verdict.reason)
        if run.deferred not in (
            None,
            call_id,
        ):  # Claude reports one deferred call of a message, and drops others
            return decision("deny", _ASK_AGAIN)
        run.deferred = call_id
        return decision("defer")

    def _first_prompt(self, turn: Turn, run: ClaudeRun) -> str:
        """Return the prompt: the turn's, or in a session that was cut off, to go on."""
        if run.sessions.session_id is None:
            return self.prompt(turn)
        told = {block.get("tool_use_id") for block in run.sessions.blocks("tool_result")}
        lost = {call_id: result for call_id, result in run.results.items() if call_id not in told}
        if not lost:
            return GO_ON
        return f"{GO_ON} These calls were carried out; their results: {dumps(lost).decode()}"

    def _open_call(self, run: ClaudeRun, waiting: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the call that the session waits to go on with, if there is one."""
        told = {block.get("tool_use_id") for block in run.sessions.blocks("tool_result")}
        return next((call for call in waiting if call["id"] not in told), None)

    def _public(self, call: Mapping[str, Any]) -> Any:
        if self.shown is not None:
            return self.shown(call["name"], call["input"])
        return {"tool": call["name"], "input": call["input"]}
