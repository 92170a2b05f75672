#!/usr/bin/env bash
# A typed MCP tool that returns NaN sends a result that its own schema refuses, and the client
#   raises.
# Package: mcp 2.3.0
# Guess: A tool declared `-> float` may return NaN or infinity; at worst the server answers with
#   a tool error that names it.
# Seen: The server sends null where its output schema says number and reports success;
#   `call_tool` raises RuntimeError ("Invalid structured content") after the tool has run.
# Why it matters: A metric of an empty window fails the whole turn on the client's side, outside
#   the MCP error classes, and a retry runs the tool's effect again.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'mcp==2.3.0'
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import anyio
from mcp.client import Client
from mcp.server.mcpserver import MCPServer

server = MCPServer("server")
ran = []


@server.tool()
def mean() -> float:
    ran.append(1)
    return float("nan")


async def main():
    async with Client(server) as client:
        try:
            return await client.call_tool("mean", {})
        except Exception as error:
            return error


outcome = anyio.run(main)
print("tool ran:", len(ran), "| outcome:", type(outcome).__name__, str(outcome).splitlines()[0])
assert type(outcome) is RuntimeError, outcome
assert "None is not of type 'number'" in str(outcome), outcome
assert ran == [1], ran
PY
