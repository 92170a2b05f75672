"""One attempt of Claude Code at a turn: what it says, does and has used."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from cgworker.adapters.claude_session import TurnSessions
from cgworker.adapters.harness import Harness, Verdict
from cgworker.adapters.messages import text_of
from cgworker.outcome import Outcome, fail
from cgworker.turn import Turn
from cgworker.worker.redaction import redact

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage


@define
class ClaudeRun:
    """One attempt of Claude at a turn.

    Attributes:
        harness: the turn.
        sessions: its session.
        results: the results of tool calls that were kept, by the id of the call.
        verdicts: whether calls are approved, by the id of the call.
        names: the names of tools, by the id of the call.
        began_ns: when calls began that may run, in nanoseconds since 1970, by the id of the call.
        deferred: the call of this run that waits for an approval; None if none does.
        client: the package's client while Claude runs.
    """

    harness: Harness
    sessions: TurnSessions
    results: dict[str, Any] = field(factory=dict)
    verdicts: dict[str, Verdict] = field(factory=dict)
    names: dict[str, str] = field(factory=dict)
    began_ns: dict[str, int] = field(factory=dict)
    deferred: str | None = None
    client: ClaudeSDKClient | None = None

    async def news(self) -> list[str]:
        """Return what the turn was told since the last call, without what the session has.

        A message is known by its number: an attempt that goes on in the session does not tell it twice.
        """
        said = "".join(self.sessions.prompts)
        return [
            f"[message {message.turn_seq}] {text_of(message.content)}"
            async for message in self.harness.turn.messages(wait=False)
            if f"[message {message.turn_seq}] " not in said
        ]


def find_cli(options: ClaudeAgentOptions) -> Path | None:
    """Return the command line that the package will run; None if there is none.

    Args:
        options: the package's options.
    """
    if options.cli_path is not None:
        return Path(options.cli_path) if Path(options.cli_path).exists() else None
    found = find_spec("claude_agent_sdk")
    bundled = Path(str(found.origin)).parent / "_bundled" / "claude" if found else None
    if bundled is not None and bundled.exists():
        return bundled
    return Path(path) if (path := shutil.which("claude")) else None


async def follow(run: ClaudeRun, client: ClaudeSDKClient) -> ResultMessage:
    """Publish what Claude says and does, until the first result; a call that goes on has one of its own.

    Args:
        run: the run.
        client: the package's client.

    Raises:
        Exception: the session cannot be kept, or there is no result.
    """
    from claude_agent_sdk import AssistantMessage, MirrorErrorMessage, ResultMessage, StreamEvent, UserMessage

    async with run.harness.stream() as out:
        async for message in client.receive_messages():
            if isinstance(message, MirrorErrorMessage):
                raise run.sessions.failure or RuntimeError(f"the session cannot be kept: {message.error}")
            if isinstance(message, StreamEvent) and message.parent_tool_use_id is None:
                await out.write(message.event.get("delta", {}).get("text", ""))
            elif isinstance(message, AssistantMessage | UserMessage) and isinstance(message.content, list):
                for block in message.content:
                    if note := _note_of(block, run):
                        await out.flush()
                        await run.harness.turn.record(note)
            elif isinstance(message, ResultMessage):
                return message
    raise run.sessions.failure or RuntimeError("Claude Code ended without a result")


def _note_of(block: Any, run: ClaudeRun) -> Mapping[str, Any] | None:
    """Return the record of the start or end of a tool call, without its arguments and result."""
    from claude_agent_sdk import ToolResultBlock, ToolUseBlock

    if isinstance(block, ToolUseBlock):
        run.names[block.id] = block.name
        return {"tool": block.name, "state": "started"}
    if isinstance(block, ToolResultBlock):
        name = run.names.get(block.tool_use_id, "")
        if (began_ns := run.began_ns.pop(block.tool_use_id, None)) is not None:  # others did not run
            failed = bool(block.is_error)
            run.harness.note_tool(name, block.tool_use_id, began_ns=began_ns, has_failed=failed)
        return {"tool": name, "state": "failed" if block.is_error else "completed"}
    return None


def decision(verdict: str, reason: str | None = None) -> Mapping[str, Any]:
    """Return what a hook answers before a tool call.

    Args:
        verdict: "allow", "deny" or "defer".
        reason: why, for the model.
    """
    said = {"hookEventName": "PreToolUse", "permissionDecision": verdict}
    return {"hookSpecificOutput": said | ({"permissionDecisionReason": reason} if reason else {})}


def is_allowed(decided: Mapping[str, Any]) -> bool:
    """Return whether a call may run after what the hook answers.

    Args:
        decided: the answer.
    """
    said = decided.get("hookSpecificOutput", {})
    return bool(said.get("permissionDecision", "allow") == "allow")


def count(run: ClaudeRun) -> None:
    """Set the usage from the session, which has that of earlier attempts too, each message once.

    Args:
        run: the run.
    """
    used = {
        message["id"]: message.get("usage") or {}
        for entry in run.sessions.entries
        if isinstance(message := entry.get("message"), Mapping)
        and isinstance(message.get("id"), str)
        and message.get("model") != "<synthetic>"  # Claude Code's own words for a call that was cut off
    }
    usage = run.harness.usage
    usage.requests = len(used)
    usage.input_tokens = sum(int(each.get("input_tokens") or 0) for each in used.values())
    usage.output_tokens = sum(int(each.get("output_tokens") or 0) for each in used.values())


def outcome(result: ResultMessage, turn: Turn) -> Outcome | Any:
    """Return the outcome of the turn.

    Args:
        result: the result of the last run.
        turn: the turn.
    """
    if result.is_error or result.subtype != "success":
        said = redact(result.result or "; ".join(result.errors or []), turn.secrets)
        return fail({"error": f"claude_{result.subtype}", "message": said})
    return {"text": result.result or ""} if result.structured_output is None else result.structured_output
