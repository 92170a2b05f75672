#!/usr/bin/env bash
# The MCP client lists the tools again at every call of a tool that is not on the first page.
# Package: mcp 2.3.0
# Guess: `call_tool` sends `tools/call`. If it needs the tool's output schema, it reads the list of tools
#   once, page by page, and then knows each tool.
# Seen: After an answer of a tool that it does not know, the client reads one page of the list. A tool of
#   that page is then known. One of a later page stays unknown: each of its calls is two requests, logs
#   "not listed by server", and its answer is not held against its output schema.
# Why it matters: A server that pages its tools gets twice the requests, and a client that relies on the
#   check of structured answers has it for some tools only. Reading all pages with `list_tools` first helps.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'mcp==2.3.0'
cd "$dir"
cat >server.py <<'PY'
"""A server with three tools, one a page."""

import json
import sys

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def answer(method, params):
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "pages", "version": "1"},
        }
    if method == "tools/list":
        page = int(params.get("cursor") or 0)
        tool = {"name": f"tool-{page}", "inputSchema": {"type": "object"}, "outputSchema": SCHEMA}
        return {"tools": [tool]} | ({"nextCursor": str(page + 1)} if page < 2 else {})
    return {"content": [{"type": "text", "text": '{"n": 1}'}], "structuredContent": {"n": 1}}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        with open("asked", "a") as asked:
            asked.write(message["method"] + "\n")
        result = answer(message["method"], message.get("params") or {})
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
PY
"$dir/venv/bin/python" - <<'PY'
import asyncio
import sys
from pathlib import Path

from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client


async def main():
    server = StdioServerParameters(command=sys.executable, args=["server.py"])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        for name in ("tool-0", "tool-0", "tool-2", "tool-2", "tool-2"):
            before = Path("asked").read_text().split()
            await session.call_tool(name, {})
            asked = Path("asked").read_text().split()[len(before) :]
            print(name, asked)
            counts[name].append(len(asked))


counts = {"tool-0": [], "tool-2": []}
asyncio.run(main())
assert counts == {"tool-0": [2, 1], "tool-2": [2, 2, 2]}, counts
PY
echo "mcp 2.3.0: a tool of the third page is looked up in the first at each call."
