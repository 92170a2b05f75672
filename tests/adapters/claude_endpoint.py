"""An endpoint of Anthropic's Messages API, on loopback, that answers by a script; and options that use it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Block = Mapping[str, Any]
Script = Callable[[Sequence[Block]], Sequence[Block]]
"""Returns the blocks of the next message for the results of tool calls so far."""


def text(said: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": said}


def call(call_id: str, tool: str, **given: Any) -> Block:
    """A tool call."""
    return {"type": "tool_use", "id": call_id, "name": tool, "input": given}


class Endpoint(ThreadingHTTPServer):
    """The endpoint.

    Attributes:
        asked: the messages of each request.
        answered: called once an answer is sent, with its number.
    """

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.script = script
        self.asked: list[Sequence[Mapping[str, Any]]] = []
        self.answered: Callable[[int], None] = lambda _: None

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that was killed."""

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def results(self) -> list[Block]:
        """The results of tool calls that the last request told."""
        return _results_in(self.asked[-1])


@contextmanager
def endpoint(script: Script) -> Iterator[Endpoint]:
    """Serve while the block runs."""
    with Endpoint(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        """Be there."""
        self._say(b"", "text/plain")

    def do_POST(self) -> None:
        """Answer with the script's next message, as a stream of events."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            self._say(b'{"input_tokens": 1}', "application/json")
            return
        self.server.asked.append(asked["messages"])
        number = len(self.server.asked)
        blocks = self.server.script(_results_in(asked["messages"]))
        events = _events(f"msg_{len(self.server.asked)}", asked["model"], blocks)
        self._say(
            "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode(),
            "text/event-stream",
        )
        self.server.answered(number)

    def _say(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _results_in(messages: Sequence[Mapping[str, Any]]) -> list[Block]:
    contents = [each["content"] for each in messages if isinstance(each["content"], list)]
    return [block for content in contents for block in content if block["type"] == "tool_result"]


def _events(message_id: str, model: str, blocks: Sequence[Block]) -> Iterator[Mapping[str, Any]]:
    message: dict[str, Any] = {
        "id": message_id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1},
    }  # fmt: skip
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": start}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    ended = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def environment(url: str, home: Path) -> dict[str, str]:
    """The environment of a Claude Code that uses this endpoint, in a home of its own."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-scripted",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def options(
    url: str, home: Path, *, paid: Path | None = None, at: Callable[[str], None] = lambda _: None, **more: Any
) -> Any:
    """Options for Claude Code with a bank's tool, in a home of its own; each payment is a line of `paid`."""
    from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool

    @tool("pay", "Pay a sum.", {"sum": int})
    async def pay(given: dict[str, Any]) -> dict[str, Any]:
        at(f"pay {given['sum']} before")
        with (paid or home / "paid").open("a") as lines:
            lines.write(f"{given['sum']}\n")
        at(f"pay {given['sum']} after")
        return {"content": [{"type": "text", "text": f"paid {given['sum']}"}]}

    return ClaudeAgentOptions(
        mcp_servers={"bank": create_sdk_mcp_server("bank", tools=[pay])},
        allowed_tools=["mcp__bank__pay"],
        cwd=home,
        env=environment(url, home),
        setting_sources=[],
        tools=[],
        model="claude-sonnet-4-5",
        **more,
    )


def payments(home: Path) -> list[int]:
    """What was paid."""
    paid = home / "paid"
    return [int(line) for line in paid.read_text().splitlines()] if paid.exists() else []
