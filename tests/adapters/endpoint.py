"""A scripted model on loopback that speaks the chat protocol, streamed as server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field, frozen


@frozen
class Refuse:
    """An answer that is none: a status, and headers such as Retry-After."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    message: str = "try again"


@frozen
class Hang:
    """Some text, and then silence until the client hangs up or the endpoint ends."""

    text: str


@frozen
class Raw:
    """What goes over the wire as it is, such as the streams of endpoints that do it in their own way."""

    text: str


@frozen
class After:
    """Streamed choices that are sent once something has happened in the test."""

    event: threading.Event
    choices: list[dict[str, Any]]


@define
class Endpoint:
    """What it is asked, and what it answers: request by request, or by a function of the request."""

    script: list[Any] | Callable[[dict[str, Any]], Any]
    base_url: str = ""
    requests: list[dict[str, Any]] = field(factory=list)
    keys: list[str | None] = field(factory=list)
    ended: threading.Event = field(factory=threading.Event)


def says(*pieces: str, finish_reason: str = "stop") -> list[dict[str, Any]]:
    """A streamed text."""
    deltas: list[dict[str, Any]] = [{"delta": {"content": piece}} for piece in pieces]
    return [*deltas, {"delta": {}, "finish_reason": finish_reason}]


def calls(*wanted: tuple[str, Any]) -> list[dict[str, Any]]:
    """Streamed tool calls, their arguments in two pieces; an argument that is a text is sent as it is."""
    deltas = []
    for index, (name, arguments) in enumerate(wanted):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        first = {"index": index, "id": f"call-{index}", "function": {"name": name, "arguments": text[:3]}}
        deltas.append({"delta": {"tool_calls": [first]}})
        rest = {"index": index, "function": {"arguments": text[3:]}}
        deltas.append({"delta": {"tool_calls": [rest]}})
    return [*deltas, {"delta": {}, "finish_reason": "tool_calls"}]


@contextmanager
def endpoint(*script: Any) -> Iterator[Endpoint]:
    """The endpoint, until the block ends; each request takes the next entry of the script."""
    with serving(list(script)) as made:
        yield made


@contextmanager
def serving(script: list[Any] | Callable[[dict[str, Any]], Any]) -> Iterator[Endpoint]:
    """The endpoint, until the block ends, with a script of either kind."""
    made = Endpoint(script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(made))
    made.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler_for(made: Endpoint) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.keys.append(self.headers["Authorization"])
            made.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            entry = made.script(made.requests[-1]) if callable(made.script) else made.script.pop(0)
            if isinstance(entry, After):
                entry.event.wait(30)
                entry = entry.choices
            if isinstance(entry, Refuse):
                self._refuse(entry)
            elif isinstance(entry, Hang):
                self._begin(200, {"Content-Type": "text/event-stream"})
                self._send({"delta": {"content": entry.text}})
                made.ended.wait(30)
            elif isinstance(entry, Raw):
                self._begin(200, {"Content-Type": "text/event-stream"})
                self.wfile.write(entry.text.encode())
            else:
                self._begin(200, {"Content-Type": "text/event-stream"})
                for choice in entry:
                    self._send(choice)
                self.wfile.write(b"data: [DONE]\n\n")

        def _begin(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, choice: dict[str, Any]) -> None:
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "scripted",
                "choices": [{"index": 0, "finish_reason": None, **choice}],
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()

        def _refuse(self, entry: Refuse) -> None:
            self._begin(entry.status, {**entry.headers, "Content-Type": "application/json"})
            self.wfile.write(json.dumps({"error": {"message": entry.message}}).encode())

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    return Handler
