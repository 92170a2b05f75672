#!/usr/bin/env bash
# The ACP SDK handles all updates of a session at the same time, so pieces of a text can change places.
# Package: agent-client-protocol 0.12.1
# Guess: A client's `session_update` is awaited for one update after the other, in the order in which the
#   agent sent them, as they are the pieces of one text.
# Seen: Each update gets a task of its own. All begin in order, and a handler that awaits something runs
#   beside the later ones, so that the last piece can be done first. `prompt` returns when all have ended.
# Why it matters: A client that awaits the place where it writes to (a socket, a file, a lock) mixes the
#   text up as soon as two pieces take different times. A queue that one task reads keeps the order.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'agent-client-protocol==0.12.1'
cd "$dir"
cat >agent.py <<'PY'
"""An agent that says four words."""

import asyncio

from acp import InitializeResponse, NewSessionResponse, PromptResponse, run_agent, update_agent_message_text


class Speaker:
    def on_connect(self, client):
        self.client = client

    async def initialize(self, protocol_version, **_):
        return InitializeResponse(protocol_version=protocol_version)

    async def new_session(self, cwd, mcp_servers=None, **_):
        return NewSessionResponse(session_id="s-1")

    async def prompt(self, prompt, session_id, **_):
        for word in ("one", "two", "three", "four"):
            await self.client.session_update(session_id, update_agent_message_text(word))
        return PromptResponse(stop_reason="end_turn")


asyncio.run(run_agent(Speaker()))
PY
"$dir/venv/bin/python" - <<'PY'
import asyncio
import sys

from acp import spawn_agent_process, text_block

begun, written = [], []
all_have_begun = asyncio.Event()


class Writer:
    """A client whose sink is slower for the earlier words: each waits until the later one is written."""

    def on_connect(self, agent):
        pass

    async def session_update(self, session_id, update, **_):
        word = update.content.text
        begun.append(word)
        place = len(begun)
        if place == 4:
            all_have_begun.set()
        await all_have_begun.wait()
        while len(written) < 4 - place:
            await asyncio.sleep(0)
        written.append(word)


async def main():
    async with spawn_agent_process(Writer(), sys.executable, "agent.py") as (agent, _):
        await agent.initialize(protocol_version=1)
        session = await agent.new_session(cwd="/", mcp_servers=[])
        await asyncio.wait_for(agent.prompt(session_id=session.session_id, prompt=[text_block("hi")]), 30)
    print("begun:  ", begun)
    print("written:", written)
    assert begun == ["one", "two", "three", "four"]
    assert written == begun[::-1]


asyncio.run(main())
PY
echo "agent-client-protocol 0.12.1: the handlers of four updates ran at once, and the last ended first."
