#!/usr/bin/env bash
# A hook that permits listed tools only makes each Claude Code run with an `output_format` fail.
# Package: claude-agent-sdk 0.2.189 with the program that it brings
# Guess: `output_format` shapes the last message. Hooks on tool calls have nothing to do with it.
# Seen: The answer travels as a call of a tool named StructuredOutput that nobody gave to the agent, and
#   `PreToolUse` hooks are asked about it. Where the hook denies it the model is asked five times and the run ends
#   with `error_max_structured_output_retries`.
# Why it matters: A gate of "only these tools" or "a person approves each tool" stops the answer itself, or puts
#   it to a person, as soon as somebody adds a schema.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'claude-agent-sdk==0.2.189'
"$dir/venv/bin/python" - "$dir" <<'PY'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher, ResultError, ResultMessage, query

HOME = sys.argv[1]
SCHEMA = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}


class Model(BaseHTTPRequestHandler):
    """A model that gives its answer in the form it was asked for."""

    requests = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Model.requests += 1
        message = {"id": f"m{Model.requests}", "type": "message", "role": "assistant", "model": "m", "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        block = {"type": "tool_use", "id": f"t{Model.requests}", "name": "StructuredOutput", "input": {}}
        given = {"type": "input_json_delta", "partial_json": '{"total": 3}'}
        events = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": given},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
             "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


async def run(url, permitted):
    """Returns how the run ended, and the tools that the hook was asked about."""
    asked, ended = [], None

    async def hook(call, tool_use_id, context):
        asked.append(call["tool_name"])
        if call["tool_name"] in permitted:
            return {}
        denied = {"permissionDecision": "deny", "permissionDecisionReason": "not on the list"}
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **denied}}

    options = ClaudeAgentOptions(
        output_format={"type": "json_schema", "schema": SCHEMA},
        hooks={"PreToolUse": [HookMatcher(hooks=[hook])]},
        tools=[], setting_sources=[], model="claude-sonnet-4-5", cwd=HOME,
        env={"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none", "HOME": HOME,
             "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    )
    try:
        async for message in query(prompt="What is the total?", options=options):
            if isinstance(message, ResultMessage):
                ended = message.subtype
    except ResultError:
        pass
    return ended, asked


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    strict = await run(url, permitted={"mcp__bank__pay"})
    open_ = await run(url, permitted={"mcp__bank__pay", "StructuredOutput"})
    print("without it on the list:", *strict)
    print("with it on the list:", *open_)
    server.shutdown()
    assert strict[0] == "error_max_structured_output_retries"
    assert set(strict[1]) == {"StructuredOutput"}
    assert open_ == ("success", ["StructuredOutput"])


asyncio.run(main())
PY
echo "claude-agent-sdk 0.2.189: the hook was asked about a tool that nobody gave."
