#!/usr/bin/env bash
# A prompt whose caller gave up goes on in the agent, and the next prompt of the session runs beside it.
# Package: agent-client-protocol 0.12.1
# Guess: Giving up `connection.prompt(...)`, by a timeout for instance, tells the agent, as the MCP SDK does for
#   a call. And an agent works on one prompt of a session at a time.
# Seen: Nothing is sent: the agent's `cancel` is not called and its `prompt` runs to its end. A second prompt of
#   the same session is handed to the agent while the first one runs.
# Why it matters: After a timeout two runs of a coding agent change one working tree. Who gives up has to call
#   `connection.cancel` and to wait for the answer of the first prompt.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'agent-client-protocol==0.12.1'
cat >"$dir/agent.py" <<'PY'
import asyncio
import sys

from acp import InitializeResponse, NewSessionResponse, PromptResponse, run_agent


def note(line):
    with open(sys.argv[1], "a") as lines:
        lines.write(line + "\n")


class Agent:
    def on_connect(self, connection):
        pass

    async def initialize(self, protocol_version, **given):
        return InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd, **given):
        return NewSessionResponse(session_id="session")

    async def cancel(self, session_id, **given):
        note("cancel")

    async def prompt(self, session_id, prompt, **given):
        name = prompt[0].text
        note(f"{name} begins")
        await asyncio.sleep(3 if name == "first" else 0)
        note(f"{name} ends")
        return PromptResponse(stop_reason="end_turn")


asyncio.run(run_agent(Agent()))
PY
"$dir/venv/bin/python" - "$dir" <<'PY'
import asyncio
import sys
from pathlib import Path

from acp import spawn_agent_process, text_block

folder = Path(sys.argv[1])
notes = folder / "notes"


class Client:
    def on_connect(self, connection):
        pass


async def main():
    program = [sys.executable, str(folder / "agent.py"), str(notes)]
    async with spawn_agent_process(Client(), *program) as (connection, _):
        await connection.initialize(protocol_version=1)
        session = await connection.new_session(cwd=str(folder), mcp_servers=[])
        try:
            await asyncio.wait_for(connection.prompt(session.session_id, [text_block("first")]), 1)
        except asyncio.TimeoutError:
            pass
        await connection.prompt(session.session_id, [text_block("second")])
        while "first ends" not in notes.read_text():
            await asyncio.sleep(0.1)
    seen = notes.read_text().splitlines()
    print(seen)
    assert seen == ["first begins", "second begins", "second ends", "first ends"]


asyncio.run(main())
PY
echo "agent-client-protocol 0.12.1: the prompt that was given up went on beside the next one."
