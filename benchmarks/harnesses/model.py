"""A scripted model on loopback: nine answers with ten tool calls, by what the tools gave so far, and a text.

Prints its address. It speaks the chat protocol, one keep-alive connection after the other.
"""

import asyncio
import json
import sys
from typing import Any

STEPS = 20
"""The model calls and the tools of a run."""
_TOOLS = 10


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await _head_of(reader):
        asked = json.loads(await reader.readexactly(int(head["content-length"])))
        body = json.dumps(_completion(asked["messages"])).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
    writer.close()


async def _head_of(reader: asyncio.StreamReader) -> dict[str, str]:
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
    except (asyncio.IncompleteReadError, ConnectionError):
        return {}
    return dict(line.split(": ", 1) for line in lines[1:] if line)


def _completion(messages: list[Any]) -> Any:
    done = sum(message["role"] == "tool" for message in messages)
    message: dict[str, Any] = {"role": "assistant", "content": "done" if done == _TOOLS else None}
    if done < _TOOLS:
        numbers = (0, 1) if done == 0 else (done,)
        message["tool_calls"] = [_call(number) for number in numbers]
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    about = {"id": "c", "object": "chat.completion", "created": 1, "model": "scripted"}
    return {**about, "choices": [choice], "usage": usage}


def _call(number: int) -> Any:
    function = {"name": "look", "arguments": json.dumps({"number": number})}
    return {"id": f"call-{number}", "type": "function", "function": function}


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sys.stdout.write(json.dumps(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") + "\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
