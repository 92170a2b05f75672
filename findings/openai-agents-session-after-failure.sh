#!/usr/bin/env bash
# An openai-agents session keeps the prompt of a run that failed, so each retry repeats it.
# Package: openai-agents 0.24.0
# Guess: A run that raises leaves its session as it was; a retry with the same prompt shows the
#   model one user message.
# Seen: The prompt is stored before the model answers. After two failed tries the third one
#   sends the prompt three times, and the session holds it three times.
# Why it matters: A worker that retries a turn on a fresh attempt changes the model's input (and
#   its bill) with every retry.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'openai-agents==0.24.0'
cd "$dir"
OPENAI_AGENTS_DISABLE_TRACING=1 "$dir/venv/bin/python" - <<'PY'
import asyncio

from agents import Agent, Model, ModelResponse, Runner, SQLiteSession, Usage, set_tracing_disabled
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

set_tracing_disabled(True)


class FailsTwice(Model):
    calls = []

    async def get_response(self, system_instructions, input, *args, **kwargs):
        self.calls.append([item["content"] for item in input])
        if len(self.calls) < 3:
            raise RuntimeError("model is down")
        text = ResponseOutputText(text="hi", type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="m", role="assistant", status="completed", type="message", content=[text]
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError


async def main():
    session, agent = SQLiteSession("session"), Agent(name="agent", model=FailsTwice())
    for _ in range(3):
        try:
            await Runner.run(agent, "pay", session=session)
        except RuntimeError:
            pass
    return [item["content"] for item in await session.get_items() if item["role"] == "user"]


stored = asyncio.run(main())
print("sent to the model:", FailsTwice.calls, "stored:", stored)
assert FailsTwice.calls == [["pay"], ["pay"] * 2, ["pay"] * 3], FailsTwice.calls
assert stored == ["pay"] * 3, stored
PY
