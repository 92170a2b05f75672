#!/usr/bin/env bash
# A streamed openai-agents run on a chat-completions server counts no tokens, the same run unstreamed does.
# Package: openai-agents 0.24.0, openai 3.57.0
# Guess: `Runner.run` and `Runner.run_streamed` of one agent leave the same usage in the context.
# Seen: Streamed, the usage is one request of 0 tokens. With another base URL than OpenAI's own the SDK does not
#   ask the server to send the usage; `ModelSettings(include_usage=True)` makes it ask.
# Why it matters: Budgets and bills that are counted from a run's usage see nothing as soon as an agent on a
#   local or a hosted compatible model is streamed. No error says so.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'openai-agents==0.24.0' 'openai==3.57.0'
"$dir/venv/bin/python" - <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

ANSWER = {"id": "c", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


class Server(BaseHTTPRequestHandler):
    """A model that says "hi", and sends the usage of a stream if it is asked to."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("stream"):
            kind = "text/event-stream"
            chunks = [{"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]},
                      {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
            if (asked.get("stream_options") or {}).get("include_usage"):
                chunks.append({"choices": [], "usage": USAGE})
            lines = [json.dumps({**ANSWER, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
            body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        else:
            kind = "application/json"
            message = {"role": "assistant", "content": "hi"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            body = json.dumps({**ANSWER, "object": "chat.completion", "choices": choices, "usage": USAGE})
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


async def streamed(agent):
    run = Runner.run_streamed(agent, "hello")
    async for _ in run.stream_events():
        pass
    return run


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
    model = OpenAIChatCompletionsModel("m", client)
    agent = Agent(name="a", model=model)
    asking = Agent(name="a", model=model, model_settings=ModelSettings(include_usage=True))
    runs = {"run": await Runner.run(agent, "hello"), "streamed": await streamed(agent),
            "streamed with include_usage": await streamed(asking)}
    tokens = {name: run.context_wrapper.usage.total_tokens for name, run in runs.items()}
    print("tokens", tokens)
    server.shutdown()
    assert tokens == {"run": 9, "streamed": 0, "streamed with include_usage": 9}


asyncio.run(main())
PY
echo "openai-agents 0.24.0: the streamed run counts 0 tokens."
