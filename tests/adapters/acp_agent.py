"""A scripted coding agent, speaking with the real package on its own side of stdio.

`python acp_agent.py FOLDER` reads its script from `FOLDER/script.json`, and notes in `FOLDER/told.jsonl` what
it was told. The script's steps are run in their order at each prompt, from where the session has come to.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

import acp
from acp import schema

FOLDER = Path(sys.argv[1])
SCRIPT: dict[str, Any] = json.loads((FOLDER / "script.json").read_text())


def note(what: str, said: Any) -> None:
    with (FOLDER / "told.jsonl").open("a") as file:
        file.write(json.dumps({what: said}) + "\n")


def new_session_id() -> str:
    return f"session-{len(list(FOLDER.glob('session-*')))}"


class Scripted:
    """Does what its script says; sessions are files, as a real agent's are."""

    def __init__(self) -> None:
        self._cancelled = asyncio.Event()
        self._cwd = ""

    def on_connect(self, conn: acp.Client) -> None:
        self._client = conn

    async def initialize(self, protocol_version: int, **_said: Any) -> acp.InitializeResponse:
        if SCRIPT.get("silent"):
            await asyncio.sleep(60)
        return acp.InitializeResponse(
            protocol_version=SCRIPT.get("version", protocol_version),
            agent_capabilities=schema.AgentCapabilities(load_session=SCRIPT.get("loads", True)),
            auth_methods=[schema.AuthMethodAgent(id="login", name="Log in")],
        )

    async def authenticate(self, method_id: str, **_said: Any) -> acp.schema.AuthenticateResponse:
        note("authenticated", method_id)
        return schema.AuthenticateResponse()

    async def new_session(self, cwd: str, **_said: Any) -> acp.NewSessionResponse:
        if SCRIPT.get("wants_login"):
            raise acp.RequestError.auth_required()
        self._cwd = cwd
        session_id = new_session_id()
        (FOLDER / session_id).write_text("0")
        return acp.NewSessionResponse(session_id=session_id)

    async def load_session(self, cwd: str, session_id: str, **_said: Any) -> acp.LoadSessionResponse:
        if not (FOLDER / session_id).exists():
            raise acp.RequestError.resource_not_found(session_id)
        self._cwd = cwd
        note("loaded", session_id)
        await self._client.session_update(session_id, acp.update_agent_message_text("(said before)"))
        return acp.LoadSessionResponse()

    async def set_session_mode(self, mode_id: str, session_id: str, **_said: Any) -> None:  # noqa: ARG002
        note("mode", mode_id)

    async def cancel(self, session_id: str, **_said: Any) -> None:
        note("cancelled", session_id)
        self._cancelled.set()

    async def prompt(self, session_id: str, prompt: list[Any], **_said: Any) -> acp.PromptResponse:
        note("prompt", "".join(block.text for block in prompt))
        steps = SCRIPT["steps"]
        while (position := int((FOLDER / session_id).read_text())) < len(steps):
            [(what, said)] = steps[position].items()
            if (reason := await self._do(session_id, position, what, said)) is not None:
                return acp.PromptResponse(stop_reason=reason, usage=SCRIPT.get("usage"))
            (FOLDER / session_id).write_text(str(position + 1))
        return acp.PromptResponse(stop_reason="end_turn", usage=SCRIPT.get("usage"))

    async def _do(self, session_id: str, position: int, what: str, said: Any) -> Any:
        """One step; the stop reason if it is the last one."""
        client, call = self._client, f"call-{os.getpid()}-{position}"
        if what == "say":
            await client.session_update(session_id, acp.update_agent_message_text(said))
        elif what == "think":
            await client.session_update(session_id, acp.update_agent_thought_text(said))
        elif what == "plan":
            await client.session_update(session_id, acp.update_plan([acp.plan_entry(said)]))
        elif what == "call":  # with permission, as coding agents do it
            return await self._call(session_id, call, said)
        elif what == "write":
            await self._try(client.write_text_file(session_id, self._path(said[0]), said[1]))
        elif what == "read":
            await self._try(client.read_text_file(session_id, self._path(said[0]), *said[1:]))
        elif what == "print":
            print(said, file=sys.stderr if said.startswith("err") else sys.stdout, flush=True)
        elif what == "once_exit":  # the next process finds the step done
            (FOLDER / session_id).write_text(str(position + 1))
            os.kill(os.getpid(), signal.SIGKILL) if said == "kill" else sys.exit(said)
        elif what == "exit":
            os._exit(said)
        elif what == "wait":
            await asyncio.wait_for(self._cancelled.wait(), said)
            return "cancelled"
        elif what == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            await asyncio.sleep(said)
        elif what == "end":
            return said
        else:
            raise acp.RequestError.invalid_params({"what": what})
        return None

    async def _call(self, session_id: str, call: str, title: str) -> Any:
        client = self._client
        tool = acp.start_tool_call(
            call, title, kind="execute", status="pending", raw_input={"command": title}
        )
        await client.session_update(session_id, tool)
        options = [
            schema.PermissionOption(option_id=kind, name=kind.replace("_", " "), kind=kind)
            for kind in ("allow_once", "allow_always", "reject_once")
        ]
        answer = await client.request_permission(
            session_id, schema.ToolCallUpdate(tool_call_id=call), options
        )
        if isinstance(answer.outcome, schema.DeniedOutcome):
            return "cancelled"
        is_allowed = answer.outcome.option_id.startswith("allow")
        note("ran" if is_allowed else "refused", title)
        status: Any = "completed" if is_allowed else "failed"
        await client.session_update(
            session_id, acp.update_tool_call(call, status=status, raw_output={"by": answer.outcome.option_id})
        )
        return None

    async def _try(self, asking: Any) -> None:
        try:
            answer = await asking
            note("file", getattr(answer, "content", None))
        except acp.RequestError as refused:
            note("refused_file", refused.to_error_obj()["message"])

    def _path(self, path: str) -> str:
        return str(Path(self._cwd) / path)


asyncio.run(acp.run_agent(cast("Any", Scripted())))
